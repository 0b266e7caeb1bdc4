// SPDX-License-Identifier: Apache-2.0
//
// The daemon is killed under load. Then: fsck finds nothing, the region mounts, and of each worker
// every operation that had returned is there, and the one under way wholly or not at all. Bytes
// that a write in place was putting over others may be old or new, in pieces of no less than 8
// (SPEC 6.1, 6.2). What a living client had pinned refuses to be cut until it was adopted and ended
// (SPEC 3.10).
//
// PINFS_KILL_SEEDS says how many seeds (4), PINFS_KILL_FIRST_SEED the first (1).
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <dirent.h>
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <pinfs.hpp>
#include <random>
#include <set>
#include <thread>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

constexpr int kWorkers = 3;

/// What a worker's directory holds.
struct Node {
    mode_t mode = 0;      ///< as st_mode
    std::string content;  ///< of a file; target of a link
    std::map<std::string, std::string> attributes;
};
/// Names of one directory level and of directories below it, as relative paths.
using Tree = std::map<std::string, std::shared_ptr<Node>>;

enum class Kind {
    create,
    write,
    truncate,
    rename,
    link,
    unlink,
    mkdir,
    rmdir,
    symlink,
    chmod,
    setxattr
};

/// One system call. Random choices are made here, so that the same seed does the same again.
struct Operation {
    Kind kind;
    std::string name{};
    std::string other{};
    std::uint64_t number = 0;  ///< offset, length, mode
    std::string bytes{};
};

bool is_file(const Node& node) { return S_ISREG(node.mode); }
bool is_directory(const Node& node) { return S_ISDIR(node.mode); }

class Choice {
public:
    explicit Choice(std::uint64_t seed) : random_(seed) {}

    Operation next(const Tree& tree) {
        const auto files = names(tree, is_file);
        const auto directories = names(tree, is_directory);
        const auto others = names(tree, [](const Node& node) { return !is_directory(node); });
        const unsigned dice = below(100);
        if (files.empty() || (dice < 18 && tree.size() < 60))
            return {Kind::create, fresh(directories)};
        if (dice < 55) {
            Operation write{Kind::write, pick(files)};
            const std::uint64_t size = tree.at(write.name)->content.size();
            write.number = below(3) == 0 ? size : below(static_cast<unsigned>(size) + 20000);
            write.number = std::min<std::uint64_t>(write.number, 400000);
            write.bytes = noise(random_(), 1 + below(below(8) == 0 ? 200000 : 9000));
            return write;
        }
        if (dice < 62) return {Kind::truncate, pick(files), {}, below(100000)};
        if (dice < 71)
            return {Kind::rename, pick(others), below(3) == 0 ? pick(others) : fresh(directories)};
        if (dice < 74) return {Kind::link, pick(files), fresh(directories)};
        if (dice < 84) return {Kind::unlink, pick(others)};
        if (dice < 87 && directories.size() < 6) return {Kind::mkdir, fresh(directories)};
        if (dice < 89 && !directories.empty()) {
            const std::string name = pick(directories);
            const auto below_it = tree.lower_bound(name + "/");
            if (below_it == tree.end() || !below_it->first.starts_with(name + "/"))
                return {Kind::rmdir, name};
        }
        if (dice < 92)
            return {Kind::symlink, fresh(directories), {}, 0, std::string(1 + below(200), 't')};
        if (dice < 96) return {Kind::chmod, pick(files), {}, below(01000)};
        return {Kind::setxattr, pick(files), "user.a" + std::to_string(below(3)), 0,
                noise(random_(), below(3000))};
    }

private:
    template <class Wanted>
    static std::vector<std::string> names(const Tree& tree, Wanted wanted) {
        std::vector<std::string> names;
        for (const auto& [name, node] : tree)
            if (wanted(*node)) names.push_back(name);
        return names;
    }
    unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }
    const std::string& pick(const std::vector<std::string>& from) {
        return from[below(static_cast<unsigned>(from.size()))];
    }
    std::string fresh(const std::vector<std::string>& directories) {
        const std::string name =
            "n" + std::to_string(count_++) + std::string(below(4) == 0 ? below(200) : 0, 'x');
        return directories.empty() || below(2) == 0 ? name : pick(directories) + "/" + name;
    }

    std::mt19937_64 random_;
    unsigned count_ = 0;
};

/// What the operation makes of the tree.
void carry_out(const Operation& operation, Tree& tree) {
    const auto node = [&]() -> Node& {
        return *tree.at(operation.name);
    };
    const auto add = [&](mode_t mode, const std::string& content) {
        tree[operation.name] = std::make_shared<Node>(Node{mode, content, {}});
    };
    switch (operation.kind) {
        case Kind::create:
            return add(S_IFREG | 0644, {});
        case Kind::mkdir:
            return add(S_IFDIR | 0755, {});
        case Kind::symlink:
            return add(S_IFLNK | 0777, operation.bytes);
        case Kind::write: {
            std::string& content = node().content;
            const std::size_t end = operation.number + operation.bytes.size();
            if (content.size() < end) content.resize(end, '\0');
            content.replace(operation.number, operation.bytes.size(), operation.bytes);
            return;
        }
        case Kind::truncate:
            node().content.resize(operation.number, '\0');
            return;
        case Kind::rename: {
            const auto moved = tree.at(operation.name);
            const auto there = tree.find(operation.other);
            if (there != tree.end() && there->second == moved) return;  // links of one inode
            tree[operation.other] = moved;
            tree.erase(operation.name);
            return;
        }
        case Kind::link:
            tree[operation.other] = tree.at(operation.name);
            return;
        case Kind::unlink:
        case Kind::rmdir:
            tree.erase(operation.name);
            return;
        case Kind::chmod:
            node().mode = S_IFREG | static_cast<mode_t>(operation.number);
            return;
        case Kind::setxattr:
            node().attributes[operation.other] = operation.bytes;
            return;
    }
}

/// Does it in the directory; 0 or an errno.
int perform(const Operation& operation, const std::string& root) {
    const std::string path = root + "/" + operation.name;
    const std::string other = root + "/" + operation.other;
    switch (operation.kind) {
        case Kind::create: {
            const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
            if (file < 0) return errno;
            close(file);
            return 0;
        }
        case Kind::write: {
            const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
            if (file < 0) return errno;
            const ssize_t count = pwrite(file, operation.bytes.data(), operation.bytes.size(),
                                         static_cast<off_t>(operation.number));
            const int failure = count < 0 ? errno : 0;
            close(file);
            if (failure != 0) return failure;
            return count == static_cast<ssize_t>(operation.bytes.size()) ? 0 : EIO;
        }
        case Kind::truncate:
            return errno_if(truncate(path.c_str(), static_cast<off_t>(operation.number)));
        case Kind::rename:
            return errno_if(rename(path.c_str(), other.c_str()));
        case Kind::link:
            return errno_if(link(path.c_str(), other.c_str()));
        case Kind::unlink:
            return errno_if(unlink(path.c_str()));
        case Kind::mkdir:
            return errno_if(mkdir(path.c_str(), 0755));
        case Kind::rmdir:
            return errno_if(rmdir(path.c_str()));
        case Kind::symlink:
            return errno_if(symlink(operation.bytes.c_str(), path.c_str()));
        case Kind::chmod:
            return errno_if(chmod(path.c_str(), static_cast<mode_t>(operation.number)));
        case Kind::setxattr:
            return errno_if(setxattr(path.c_str(), operation.other.c_str(), operation.bytes.data(),
                                     operation.bytes.size(), 0));
    }
    return EINVAL;
}

/// How far a worker has come; in memory that the test shares with it.
struct Progress {
    std::atomic<std::uint64_t> returned{0};
    std::atomic<int> failure{0};
};

bool is_end_of_daemon(int failure) {
    return failure == ENOTCONN || failure == ECONNABORTED || failure == ENODEV || failure == EIO;
}

/// Until the daemon is gone. Inside the directory, so that no other one comes to light there then.
[[noreturn]] void work(std::uint64_t seed, const std::string& root, Progress& progress) {
    if (chdir(root.c_str()) != 0) _exit(1);
    Choice choice{seed};
    Tree tree;
    while (true) {
        const Operation operation = choice.next(tree);
        const int failure = perform(operation, ".");
        if (failure != 0) {
            if (!is_end_of_daemon(failure)) progress.failure = failure;
            _exit(0);
        }
        carry_out(operation, tree);
        progress.returned.fetch_add(1);
    }
}

Tree tree_in(const std::string& root, const std::string& below = {}) {
    Tree tree;
    std::map<ino_t, std::shared_ptr<Node>> linked;
    const auto walk = [&](auto&& self, const std::string& at) -> void {
        DIR* directory = opendir((root + "/" + at).c_str());
        REQUIRE(directory != nullptr);
        std::vector<std::string> names;
        while (const dirent* entry = readdir(directory)) names.emplace_back(entry->d_name);
        closedir(directory);
        for (const std::string& name : names) {
            if (name == "." || name == "..") continue;
            const std::string relative = at.empty() ? name : at + "/" + name;
            const std::string path = root + "/" + relative;
            CAPTURE(path);
            struct stat st {};
            REQUIRE(lstat(path.c_str(), &st) == 0);
            auto& node = linked[st.st_ino];
            if (!node) {
                node = std::make_shared<Node>();
                node->mode = st.st_mode;
                if (S_ISREG(st.st_mode)) {
                    node->content = contents(path);
                    CHECK(node->content.size() == static_cast<std::size_t>(st.st_size));
                    for (int i = 0; i < 3; ++i) {
                        const std::string attribute = "user.a" + std::to_string(i);
                        std::string value(4000, '\0');
                        const ssize_t bytes =
                            getxattr(path.c_str(), attribute.c_str(), value.data(), value.size());
                        if (bytes < 0) continue;
                        value.resize(static_cast<std::size_t>(bytes));
                        node->attributes[attribute] = value;
                    }
                } else if (S_ISLNK(st.st_mode)) {
                    std::string target(5000, '\0');
                    const ssize_t bytes = readlink(path.c_str(), target.data(), target.size());
                    REQUIRE(bytes >= 0);
                    node->content = target.substr(0, static_cast<std::size_t>(bytes));
                }
            }
            tree[relative] = node;
            if (S_ISDIR(st.st_mode)) self(self, relative);
        }
    };
    walk(walk, below);
    return tree;
}

std::string difference(const Tree& found, const Tree& expected) {
    for (const auto& [name, node] : expected) {
        const auto other = found.find(name);
        if (other == found.end()) return name + " is missing";
        const Node& is = *other->second;
        if (is.mode != node->mode) return name + " has another mode";
        if (is.content.size() != node->content.size())
            return name + " has " + std::to_string(is.content.size()) + " bytes, not " +
                   std::to_string(node->content.size());
        if (is.content != node->content) {
            const auto [at, ignored] =
                std::mismatch(is.content.begin(), is.content.end(), node->content.begin());
            return name + " differs at byte " + std::to_string(at - is.content.begin());
        }
        if (is.attributes != node->attributes) return name + " has other attributes";
        for (const auto& [second, same] : expected)
            if ((same == node) != (found.contains(second) && found.at(second) == other->second))
                return name + " and " + second + " are linked differently";
    }
    for (const auto& [name, node] : found)
        if (!expected.contains(name)) return name + " is there without need";
    return {};
}

/// Puts into `before` those bytes of a write under way that `found` has of `after`, where that is
/// allowed: of an overwrite any words; of a `cached` file's write also whole requests, since the
/// kernel cuts it between pages.
void accept_part_of_write(const Operation& operation, bool cached, const Tree& found, Tree& before,
                          const Tree& after) {
    if (operation.kind != Kind::write || !found.contains(operation.name)) return;
    const std::string& is = found.at(operation.name)->content;
    std::string& old_content = before.at(operation.name)->content;
    const std::string& new_content = after.at(operation.name)->content;
    if (cached && is.size() > old_content.size() && is.size() < new_content.size() &&
        is.size() % 4096 == 0)
        old_content = new_content.substr(0, is.size());
    if (is.size() != old_content.size()) return;
    const std::size_t end =
        std::min<std::size_t>(operation.number + operation.bytes.size(), is.size());
    for (std::size_t word = operation.number / 8 * 8; word < end; word += 8) {
        const std::size_t from = std::max<std::size_t>(word, operation.number);
        const std::size_t bytes = std::min<std::size_t>(word + 8, end) - from;
        if (is.compare(from, bytes, new_content, from, bytes) == 0)
            old_content.replace(from, bytes, new_content, from, bytes);
    }
}

/// The tree must be the one after `returned` operations, or after one more.
std::string judge(std::uint64_t seed, bool cached, std::uint64_t returned, const Tree& found) {
    const auto replay = [&](std::uint64_t count, std::optional<Operation>* next) {
        Choice choice{seed};
        Tree tree;
        for (std::uint64_t i = 0; i < count; ++i) carry_out(choice.next(tree), tree);
        if (next != nullptr) *next = choice.next(tree);
        return tree;
    };
    std::optional<Operation> next;
    Tree before = replay(returned, &next);
    const Tree after = replay(returned + 1, nullptr);
    std::string wrong = difference(found, after);
    if (wrong.empty()) return {};
    accept_part_of_write(*next, cached, found, before, after);
    const std::string also_wrong = difference(found, before);
    if (also_wrong.empty()) return {};
    return "without operation " + std::to_string(returned) + ": " + also_wrong +
           "; with it: " + wrong;
}

/// A client with a lease and a pin on a file of its own.
class Client {
public:
    explicit Client(const KernelMount& mounted)
        : file_(mounted.path(kName)), context_(mounted.root()) {
        file_.write(0, noise(1, kBytes));
        lease_.emplace(context_, file_.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE, 0, kBytes);
        pin_.length_bytes = kBytes;
        REQUIRE(pinfs_pin(context_.get(), file_.fd(), &pin_) == 0);
    }
    [[nodiscard]] const struct pinfs_pin& pin() const { return pin_; }

    static constexpr const char* kName = "pinned";
    static constexpr std::size_t kBytes = 256 * 1024;

private:
    TestFile file_;
    pinfs::Context context_;
    std::optional<pinfs::Lease> lease_;
    struct pinfs_pin pin_ = PINFS_PIN_INIT;
};

/// After a remount: what its living owner has pinned is refused until it was adopted and ended.
void check_recovered(const KernelMount& mounted, const struct pinfs_pin& pin) {
    const std::string path = mounted.path(Client::kName);
    CHECK(contents(path) == noise(1, Client::kBytes));
    CHECK(contents(mounted.path(".file_pins")).find("(recovered)") != std::string::npos);
    CHECK(errno_if(truncate(path.c_str(), 0)) == EBUSY);
    {
        pinfs::Context context{mounted.root()};
        CHECK(pinfs_pin_adopt(context.get(), pin.id, pin.generation, pin.secret) == 0);
        CHECK(errno_if(truncate(path.c_str(), 0)) == EBUSY);
        CHECK(pinfs_unpin(context.get(), pin.id, pin.generation) == 0);
    }
    CHECK(errno_if(truncate(path.c_str(), 0)) == 0);
}

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

TEST_CASE("kill -9 under load loses nothing that had returned", "[mount][crash]") {
    const std::uint64_t first = number_from("PINFS_KILL_FIRST_SEED", 1);
    const std::uint64_t count = number_from("PINFS_KILL_SEEDS", 4);
    std::uint64_t operations = 0;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 random{seed};
        const bool cached = seed % 3 == 0;
        const std::string options = cached ? "dax=never" : "dax=inode";
        KernelMount mounted{256};
        mounted.mount(options);
        void* shared = mmap(nullptr, sizeof(Progress) * kWorkers, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        REQUIRE(shared != MAP_FAILED);
        auto* progress = new (shared) Progress[kWorkers];
        std::vector<pid_t> workers;
        for (int worker = 0; worker < kWorkers; ++worker) {
            const std::string root = mounted.path("worker" + std::to_string(worker));
            REQUIRE(mkdir(root.c_str(), 0755) == 0);
            const pid_t child = fork();
            REQUIRE(child >= 0);
            if (child == 0)
                work(seed * 100 + static_cast<std::uint64_t>(worker), root, progress[worker]);
            workers.push_back(child);
        }
        std::optional<struct pinfs_pin> pin;
        {
            std::optional<Client> client;
            if (!cached) pin = client.emplace(mounted).pin();
            std::this_thread::sleep_for(std::chrono::microseconds{20000 + random() % 700000});
            mounted.kill_daemon();
        }
        for (const pid_t worker : workers) waitpid(worker, nullptr, 0);
        mounted.check();

        mounted.mount(options);
        if (seed % 4 == 1) {  // and once more, while it frees what the first left
            mounted.kill_daemon();
            mounted.check();
            mounted.mount(options);
        }
        for (int worker = 0; worker < kWorkers; ++worker) {
            CAPTURE(worker);
            CHECK(progress[worker].failure == 0);
            const std::uint64_t returned = progress[worker].returned;
            operations += returned;
            const Tree found = tree_in(mounted.path("worker" + std::to_string(worker)));
            const std::string lost =
                judge(seed * 100 + static_cast<std::uint64_t>(worker), cached, returned, found);
            INFO(lost);
            CHECK(lost.empty());
        }
        if (pin) check_recovered(mounted, *pin);
        // It can be worked with.
        write_file(mounted.path("afterwards"), noise(seed, 100000));
        CHECK(run({"rm", "-rf", mounted.path("worker0")}).status == 0);
        mounted.unmount();
        mounted.check();
        munmap(shared, sizeof(Progress) * kWorkers);
    }
    std::printf("%llu seeds from %llu: %llu operations had returned\n",
                static_cast<unsigned long long>(count), static_cast<unsigned long long>(first),
                static_cast<unsigned long long>(operations));
    // An emulated processor is slow.
    CHECK(operations > (std::getenv("PINFS_IN_GUEST") != nullptr ? 10 : 100) * count);
}
