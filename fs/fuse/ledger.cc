// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/ledger.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "fs/fuse/edge.h"
#include "fs/volume/finished_requests.h"

namespace pinfs::fuse {
namespace {

constexpr std::uint64_t kMagic = 0x31474c5346464e50;  // of this layout
constexpr std::size_t kHeaderBytes = 4096;
constexpr std::size_t kFirstBytesMax = 512;
/// Address space; memory is used where there are entries.
constexpr std::size_t kBytes = std::size_t{1} << 32;

}  // namespace

struct Ledger::Header {
    std::uint64_t magic;
    std::uint64_t session;
    std::uint64_t start_volatile_id;
    std::uint64_t start_record_id;
    std::atomic<std::uint64_t> next_handle;
    std::atomic<std::uint64_t> next_set;
    std::atomic<std::uint32_t> used;  // entries behind were never used
    std::atomic<std::uint32_t> shut_down;
    std::atomic<std::uint32_t> request_bytes;
    std::atomic<std::uint32_t> answer_bytes;
    std::array<std::byte, kFirstBytesMax> request;
    std::array<std::byte, kFirstBytesMax> answer;
};

/// Of each kind some fields.
struct Ledger::Entry {
    std::atomic<Kind> kind;
    std::uint32_t uid;
    std::uint64_t handle;
    std::uint64_t request;  // that made it
    std::uint64_t ino;      // a file's
    std::uint64_t id;       // of a lease or map
    std::uint64_t begin;
    std::uint64_t end;
    std::uint64_t user_data;
    std::uint64_t deadline_ns;
    std::int64_t made_seconds;
    std::atomic<std::uint64_t> context;  // of a context's file: 0 until the fields below are there
    std::uint64_t guard;
    std::atomic<std::uint64_t> poller;
    std::uint64_t set;  // of leases: those of a handle are written together, as many
    std::uint64_t set_size;
    std::uint64_t start_ticks;
    std::uint64_t pid_namespace;
    std::uint32_t pid;
    pin::LeaseKind lease_kind;
    Token token;
    std::array<char, 16> command;

    Entry() = default;
    Entry(const Entry& other) { *this = other; }
    /// All but the kind.
    Entry& operator=(const Entry& other) {
        constexpr std::size_t kBehind = sizeof(kind);
        std::memcpy(reinterpret_cast<std::byte*>(this) + kBehind,
                    reinterpret_cast<const std::byte*>(&other) + kBehind, sizeof(Entry) - kBehind);
        return *this;
    }
    ~Entry() = default;

    void set_owner(const pin::Owner& owner) {
        uid = owner.uid;
        pid = owner.process.pid;
        start_ticks = owner.process.start_ticks;
        pid_namespace = owner.process.pid_namespace;
        owner.command.copy(command.data(), command.size());
    }
    [[nodiscard]] pin::Owner owner() const {
        return {.context = context,
                .process = {.pid = pid, .start_ticks = start_ticks, .pid_namespace = pid_namespace},
                .uid = uid,
                .command = {command.data(), strnlen(command.data(), command.size())}};
    }
};

int Ledger::make_memory() {
    const int memory = memfd_create("pinfs-ledger", MFD_CLOEXEC);
    if (memory < 0) return -1;
    if (ftruncate(memory, kBytes) == 0) return memory;
    close(memory);
    return -1;
}

std::expected<std::unique_ptr<Ledger>, std::string> Ledger::attach(int memory) {
    struct stat st {};
    if (fstat(memory, &st) != 0 || st.st_size != static_cast<off_t>(kBytes))
        return std::unexpected("the supervisor keeps no ledger that this version knows");
    void* const at =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory, 0);
    if (at == MAP_FAILED)
        return std::unexpected(std::string{"the ledger cannot be mapped: "} + strerror(errno));
    auto* const bytes = static_cast<std::byte*>(at);
    std::uint64_t magic = 0;
    std::memcpy(&magic, bytes, sizeof(magic));
    if (magic != 0 && magic != kMagic) {
        munmap(at, kBytes);
        return std::unexpected("the supervisor keeps no ledger that this version knows");
    }
    return std::unique_ptr<Ledger>{new Ledger{bytes, magic == 0}};
}

Ledger::Ledger(std::byte* memory, bool is_new) : memory_(memory) {
    static_assert(sizeof(Header) <= kHeaderBytes);
    static_assert(std::atomic<Kind>::is_always_lock_free);
    if (is_new) {
        auto* const made = new (memory) Header{};
        made->next_handle = 1;
        made->next_set = 1;
        std::uint64_t session = 0;
        while (session == 0)
            if (getrandom(&session, sizeof(session), 0) != sizeof(session)) session = 0;
        made->session = session;
        made->magic = kMagic;
    }
    for (Slot slot = 0; slot < header().used; ++slot) {
        const Entry& each = entry(slot);
        switch (each.kind) {
            case Kind::none:
                free_.push_back(slot);
                break;
            case Kind::open:
            case Kind::context:
                files_[each.handle] = slot;
                break;
            case Kind::lease:
                leases_[each.handle].push_back(slot);
                break;
            case Kind::map:
                maps_[each.id] = slot;
                maps_of_guards_[each.guard].push_back(each.id);
                break;
        }
    }
}

Ledger::~Ledger() { munmap(memory_, kBytes); }

Ledger::Header& Ledger::header() const { return *reinterpret_cast<Header*>(memory_); }

Ledger::Entry& Ledger::entry(Slot slot) const {
    return *reinterpret_cast<Entry*>(memory_ + kHeaderBytes + slot * sizeof(Entry));
}

Ledger::Slot Ledger::add(Kind kind, const Entry& wanted) {
    Slot slot = 0;
    if (free_.empty()) {
        slot = header().used;
        if (kHeaderBytes + (slot + std::size_t{1}) * sizeof(Entry) > kBytes) throw std::bad_alloc{};
        free_.reserve(slot + 1);  // so that erase cannot fail
        header().used = slot + 1;
    } else {
        slot = free_.back();
        free_.pop_back();
    }
    Entry& made = entry(slot);
    made = wanted;
    made.request = served_request().number;
    made.kind.store(kind, std::memory_order_release);
    return slot;
}

void Ledger::erase(Slot slot) {
    entry(slot).kind.store(Kind::none, std::memory_order_release);
    free_.push_back(slot);
}

// --- The session -------------------------------------------------------------------------------

std::uint64_t Ledger::session() const { return header().session; }

std::optional<SessionStart> Ledger::start() const {
    if (header().start_volatile_id == 0) return std::nullopt;
    return SessionStart{header().start_volatile_id, header().start_record_id};
}

void Ledger::set_start(const SessionStart& start) {
    header().start_record_id = start.record_id;
    header().start_volatile_id = start.volatile_id;
}

std::span<const std::byte> Ledger::first_request() const {
    return std::span{header().request}.first(header().request_bytes);
}

void Ledger::set_first_request(std::span<const std::byte> request) {
    const std::size_t bytes = std::min(request.size(), kFirstBytesMax);
    std::ranges::copy(request.first(bytes), header().request.begin());
    header().request_bytes = static_cast<std::uint32_t>(bytes);
}

std::span<const std::byte> Ledger::first_answer() const {
    return std::span{header().answer}.first(header().answer_bytes);
}

void Ledger::set_first_answer(std::span<const std::byte> answer) {
    const std::size_t bytes = std::min(answer.size(), kFirstBytesMax);
    std::ranges::copy(answer.first(bytes), header().answer.begin());
    header().answer_bytes = static_cast<std::uint32_t>(bytes);
}

bool Ledger::is_shut_down() const { return header().shut_down != 0; }
void Ledger::set_shut_down() { header().shut_down = 1; }
std::uint64_t Ledger::take_handle_number() {
    return header().next_handle.fetch_add(1, std::memory_order_relaxed);
}

// --- Open files --------------------------------------------------------------------------------

void Ledger::opened(std::uint64_t handle, Ino ino) {
    Entry wanted{};
    wanted.handle = handle;
    wanted.ino = ino.value;
    const std::scoped_lock lock{mutex_};
    const Slot slot = add(Kind::open, wanted);
    files_[handle] = slot;
}

bool Ledger::closed(std::uint64_t handle) {
    const std::scoped_lock lock{mutex_};
    const auto found = files_.find(handle);
    if (found == files_.end()) return false;
    erase(found->second);
    files_.erase(found);
    return true;
}

void Ledger::leases_are(std::uint64_t handle, const std::vector<pin::Lease>& leases) {
    const std::scoped_lock lock{mutex_};
    std::vector<Slot> slots;
    slots.reserve(leases.size());
    const std::uint64_t set = header().next_set.fetch_add(1);
    for (const pin::Lease& lease : leases) {
        Entry wanted{};
        wanted.handle = handle;
        wanted.ino = lease.ino;
        wanted.id = lease.id;
        wanted.begin = lease.begin;
        wanted.end = lease.end;
        wanted.user_data = lease.user_data;
        wanted.deadline_ns = lease.deadline_ns;
        wanted.made_seconds = lease.made_seconds;
        wanted.lease_kind = lease.kind;
        wanted.set_owner(lease.owner);
        wanted.context = lease.context;
        wanted.set = set;
        wanted.set_size = leases.size();
        slots.push_back(add(Kind::lease, wanted));
    }
    for (const Slot slot : leases_[handle]) erase(slot);
    if (slots.empty())
        leases_.erase(handle);
    else
        leases_[handle] = std::move(slots);
}

void Ledger::map_made(std::uint64_t map, std::uint64_t guard) {
    Entry wanted{};
    wanted.id = map;
    wanted.guard = guard;
    const std::scoped_lock lock{mutex_};
    maps_of_guards_[guard].push_back(map);
    maps_[map] = add(Kind::map, wanted);
}

void Ledger::map_ended(std::uint64_t map) {
    const std::scoped_lock lock{mutex_};
    const auto found = maps_.find(map);
    if (found == maps_.end()) return;
    const auto of_guard = maps_of_guards_.find(entry(found->second).guard);
    if (of_guard != maps_of_guards_.end() && std::erase(of_guard->second, map) != 0 &&
        of_guard->second.empty())
        maps_of_guards_.erase(of_guard);
    erase(found->second);
    maps_.erase(found);
}

// --- Contexts ----------------------------------------------------------------------------------

void Ledger::context_opened(std::uint64_t handle, std::uint32_t uid) {
    Entry wanted{};
    wanted.handle = handle;
    wanted.uid = uid;
    const std::scoped_lock lock{mutex_};
    const Slot slot = add(Kind::context, wanted);
    files_[handle] = slot;
}

void Ledger::context_is(const KnownContextFile& file) {
    const std::scoped_lock lock{mutex_};
    const auto found = files_.find(file.handle);
    if (found == files_.end()) return;
    Entry& each = entry(found->second);
    each.set_owner(file.owner);
    each.uid = file.uid;
    each.guard = file.guard;
    each.token = file.token;
    each.context.store(file.context, std::memory_order_release);  // from here on it is one
}

void Ledger::polled(std::uint64_t handle, std::uint64_t poller) {
    const std::scoped_lock lock{mutex_};
    const auto found = files_.find(handle);
    if (found != files_.end() && poller != 0) entry(found->second).poller = poller;
}

void Ledger::context_closed(std::uint64_t handle) {
    std::vector<std::uint64_t> maps;
    {
        const std::scoped_lock lock{mutex_};
        const auto found = files_.find(handle);
        if (found == files_.end()) return;
        const Entry& each = entry(found->second);
        const auto guarded = maps_of_guards_.find(each.guard);
        if (each.kind == Kind::context && guarded != maps_of_guards_.end()) maps = guarded->second;
        erase(found->second);
        files_.erase(found);
    }
    for (const std::uint64_t map : maps) map_ended(map);
}

// --- What is left ------------------------------------------------------------------------------

/// The last set of leases that was written whole; 0: none.
std::uint64_t Ledger::whole_set(const std::vector<Slot>& slots) const {
    std::uint64_t last = 0;
    for (const Slot slot : slots) {
        const std::uint64_t set = entry(slot).set;
        const auto count =
            std::ranges::count_if(slots, [&](Slot other) { return entry(other).set == set; });
        if (static_cast<std::uint64_t>(count) == entry(slot).set_size) last = std::max(last, set);
    }
    return last;
}

pin::Lease Ledger::lease_of(const Entry& entry) {
    pin::Lease lease;
    lease.begin = entry.begin;
    lease.end = entry.end;
    lease.id = entry.id;
    lease.ino = entry.ino;
    lease.handle = entry.handle;
    lease.kind = entry.lease_kind;
    lease.context = entry.context;
    lease.user_data = entry.user_data;
    lease.owner = entry.owner();
    lease.made_seconds = entry.made_seconds;
    lease.deadline_ns = entry.deadline_ns;
    return lease;
}

Ledger::Left Ledger::survivors(const std::vector<std::uint64_t>& unanswered) {
    const std::scoped_lock lock{mutex_};
    Left left;
    left.survivors.start = start().value_or(SessionStart{});
    left.survivors.unanswered = unanswered;
    for (const auto& [handle, slot] : std::unordered_map{files_}) {
        const Entry& each = entry(slot);
        if (std::ranges::find(unanswered, each.request) != unanswered.end()) {
            erase(slot);
            files_.erase(handle);
            continue;
        }
        if (each.kind == Kind::open) {
            left.survivors.opens.push_back({Ino{each.ino}, kind_of_handle(handle).dax});
            continue;
        }
        if (each.guard != 0)
            left.survivors.guards.push_back({each.guard, each.context});
        else if (each.context != 0)
            left.survivors.contexts.push_back(each.owner());
        left.contexts.push_back({.handle = handle,
                                 .uid = each.uid,
                                 .poller = each.poller,
                                 .context = each.context,
                                 .guard = each.guard,
                                 .token = each.token,
                                 .owner = each.owner()});
    }
    for (const auto& [id, slot] : maps_) left.survivors.guards_of_maps[id] = entry(slot).guard;
    for (const auto& [handle, slots] : std::unordered_map{leases_}) {
        const std::uint64_t set = files_.contains(handle) ? whole_set(slots) : 0;
        std::vector<Slot> kept;
        for (const Slot slot : slots) {
            if (entry(slot).set != set || set == 0) {
                erase(slot);
                continue;
            }
            kept.push_back(slot);
            left.survivors.leases.push_back(lease_of(entry(slot)));
        }
        if (kept.empty())
            leases_.erase(handle);
        else
            leases_[handle] = std::move(kept);
    }
    return left;
}

}  // namespace pinfs::fuse
