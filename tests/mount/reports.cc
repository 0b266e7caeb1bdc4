// SPDX-License-Identifier: Apache-2.0
//
// What reports say (SPEC 4): who owns what, to whom it is shown, and that each is of one moment.
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/raw_protocol.h"

using namespace pinfs::test;
using namespace std::string_literals;
using Json = nlohmann::json;

namespace {

/// A pin of block `block`, by the context or, with `by_process`, by this process.
pinfs_ioc_pin pin_block(const RawContext& context, int file, std::uint64_t block, int owner_fd = -1,
                        bool by_process = false) {
    pinfs_ioc_pin words{};
    words.owner_fd = owner_fd;
    words.owner = by_process ? PINFS_IOC_OWNER_PROCESS : PINFS_IOC_OWNER_CONTEXT;
    const Outcome outcome = context.pin(file, block * kBlock, kBlock, words);
    CAPTURE(outcome.sentence);
    REQUIRE(outcome.error == 0);
    return words;
}

std::string command_of_this() {
    std::string command = contents("/proc/self/comm");
    command.pop_back();
    return command;
}

std::string attribute_of(const std::string& path, const char* name) {
    std::string value(65536, '\0');
    const ssize_t count = getxattr(path.c_str(), name, value.data(), value.size());
    REQUIRE(count >= 0);
    value.resize(static_cast<std::size_t>(count));
    return value;
}

std::string rest_of(int file) {
    std::string text;
    char piece[333];
    for (ssize_t count = 0; (count = read(file, piece, sizeof(piece))) > 0;)
        text.append(piece, static_cast<std::size_t>(count));
    return text;
}

}  // namespace

TEST_CASE("file_pins: an owning descriptor, its files, then the process' own", "[mount][reports]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor f = file_of(mounted, "f", 8);
    const Descriptor g = file_of(mounted, "g", 8);
    CHECK(contents(mounted.path(".file_pins")).empty());
    REQUIRE(context.lease(f.get(), kExclusiveLease, 0, 0).error == 0);
    REQUIRE(context.lease(g.get(), kExclusiveLease, 0, 0).error == 0);
    CHECK(contents(mounted.path(".file_pins")).empty());  // pins alone

    const std::string pid = std::to_string(getpid());
    const std::string head = "pid " + pid + " (" + command_of_this() + ")\n";
    Descriptor device{"/dev/zero", O_RDONLY};
    const std::string number = std::to_string(device.get());
    pin_block(context, f.get(), 0, device.get());
    pin_block(context, f.get(), 2, device.get());
    const auto of_g = pin_block(context, g.get(), 0, device.get());
    std::string body = number + ": /dev/zero\n\t/f\n\t/g\n";
    CHECK(contents(mounted.path(".file_pins")) == head + body);
    pin_block(context, g.get(), 1, -1, /*by_process=*/true);
    pin_block(context, g.get(), 2, -1, /*by_process=*/true);
    body += "/g\n";
    CHECK(contents(mounted.path(".file_pins")) == head + body);
    CHECK(contents(mounted.path(".pinfs/pid/" + pid + "/file_pins")) == body);
    CHECK(contents(mounted.path(".pinfs/pid/1/file_pins")).empty());
    CHECK(run({"ls", mounted.path(".pinfs/pid")}).out == pid + "\n");

    // Without a descriptor, the context owns; process' own stand last.
    const auto unnamed = pin_block(context, f.get(), 4);
    const std::string owner = "context " + std::to_string(context.id()) + "\n";
    CHECK(contents(mounted.path(".file_pins")) ==
          head + number + ": /dev/zero\n\t/f\n\t/g\n" + owner + "\t/f\n/g\n");
    REQUIRE(context.unpin(unnamed.id, unnamed.generation).error == 0);

    // A descriptor that is another file now names nothing.
    const Descriptor other{"/dev/null", O_RDONLY};
    REQUIRE(dup3(other.get(), device.get(), O_CLOEXEC) == device.get());
    CHECK(contents(mounted.path(".file_pins")) == head + owner + "\t/f\n\t/g\n/g\n");
    device.reset();
    CHECK(contents(mounted.path(".file_pins")) == head + owner + "\t/f\n\t/g\n/g\n");

    // Of a file without a name the last one is said.
    REQUIRE(context.unpin(of_g.id, of_g.generation).error == 0);
    REQUIRE(unlink(mounted.path("f").c_str()) == 0);
    CHECK(contents(mounted.path(".file_pins")) == head + owner + "\t/f (deleted)\n/g\n");
}

TEST_CASE("control characters of names are octal escapes in reports", "[mount][reports]") {
    KernelMount mounted;
    mounted.mount();
    const std::string before = command_of_this();
    REQUIRE(prctl(PR_SET_NAME, "ba\nd) \033\\") == 0);
    const RawContext context{mounted.root()};
    const std::string name = "a\tb\nc\\d\x7f\xff";
    const Descriptor file = file_of(mounted, name, 1);
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    pin_block(context, file.get(), 0, -1, /*by_process=*/true);
    const std::string text = contents(mounted.path(".file_pins"));
    const Json json = Json::parse(contents(mounted.path(".pinfs/pins.json")));
    CHECK(errno_if(truncate(mounted.path(name).c_str(), 0)) == EBUSY);
    REQUIRE(prctl(PR_SET_NAME, before.c_str()) == 0);
    CHECK(text == "pid " + std::to_string(getpid()) +
                      " (ba\\012d) \\033\\134)\n/a\\011b\\012c\\134d\\177\xff\n");
    CHECK(json["items"].size() == 2);
    CHECK(json["items"][0]["command"] == "ba\nd) \033\\");
}

TEST_CASE("pins.json has every lease, map, pin, hold and orphan", "[mount][reports]") {
    KernelMount mounted;
    mounted.mount();
    CHECK(Json::parse(contents(mounted.path(".pinfs/pins.json")))["items"].empty());
    const RawContext context{mounted.root()};
    const Descriptor f = file_of(mounted, "f", 8);
    pinfs_ioc_lease lease{};
    REQUIRE(context.lease(f.get(), kExclusiveLease, 0, 4 * kBlock, &lease).error == 0);
    REQUIRE(context.lease(f.get(), kLayoutLease, 4 * kBlock, 0).error == 0);
    std::uint64_t guard_id = 0;
    const Descriptor guard = context.guard(guard_id);
    pinfs_ioc_map map{};
    map.flags = PINFS_IOC_MAP_WRITE;
    map.flags |= PINFS_IOC_MAP_SELF_FLUSH;
    std::vector<pinfs_ioc_extent> extents;
    REQUIRE(context.map(f.get(), guard_id, 0, 8 * kBlock, map, &extents).error == 0);
    const Descriptor device{"/dev/zero", O_RDONLY};
    const auto pin = pin_block(context, f.get(), 1, device.get());
    // Cut from under the map: a hold.
    REQUIRE(truncate(mounted.path("f").c_str(), 6 * kBlock) == 0);

    const Json report = Json::parse(contents(mounted.path(".pinfs/pins.json")));
    CHECK(report["version"] == 1);
    CHECK(report["mount"] == mounted.root());
    std::map<std::string, std::vector<Json>> kinds;
    for (const Json& item : report["items"]) {
        kinds[item["kind"]].push_back(item);
        CAPTURE(item.dump());
        CHECK(item["file"] == "/f");
        CHECK(item["pid"] == getpid());
        CHECK(item["uid"] == 0);
        CHECK(item["command"] == command_of_this());
        CHECK(item["context"] == context.id());
        CHECK(item["owner"] == "context");
        CHECK(item["age_seconds"] >= 0);
        CHECK(item["age_seconds"] < 60);
        CHECK(item["start_ticks"] > 0);
        CHECK(item["pid_namespace"] > 0);
        CHECK(item["container"].is_string());
        CHECK(item["deleted"] == false);
    }
    REQUIRE(kinds["lease"].size() == 2);
    CHECK(kinds["lease"][0]["lease"] == "exclusive");
    CHECK(kinds["lease"][0]["id"] == lease.id);
    CHECK(kinds["lease"][0]["length_bytes"] == 4 * kBlock);
    CHECK(kinds["lease"][1]["lease"] == "layout");
    CHECK(kinds["lease"][1]["length_bytes"] == 0);
    REQUIRE(kinds["map"].size() == 1);
    CHECK(kinds["map"][0]["id"] == map.id);
    CHECK(kinds["map"][0]["writable"] == true);
    CHECK(kinds["map"][0]["self_flushed"] == true);
    // A map reaches whole units.
    const std::uint64_t unit = mounted.map_unit();
    const std::uint64_t mapped = unit == kBlock ? 8 * kBlock : unit;
    const std::uint64_t held = mapped - 6 * kBlock;
    CHECK(kinds["map"][0]["length_bytes"] == mapped);
    REQUIRE(kinds["pin"].size() == 1);
    CHECK(kinds["pin"][0]["id"] == pin.id);
    CHECK(kinds["pin"][0]["generation"] == pin.generation);
    CHECK(kinds["pin"][0]["offset_bytes"] == kBlock);
    CHECK(kinds["pin"][0]["state"] == "live");
    CHECK(kinds["pin"][0]["descriptor"] == device.get());
    CHECK(kinds["pin"][0]["label"] == "/dev/zero");
    REQUIRE(kinds["hold"].size() == 1);
    CHECK(kinds["hold"][0]["state"] == "cut");
    CHECK(kinds["hold"][0]["offset_bytes"] == 6 * kBlock);
    CHECK(kinds["hold"][0]["length_bytes"] == held);
    CHECK(kinds["hold"][0]["region_offset_bytes"] == extents[0].region_offset_bytes + 6 * kBlock);

    REQUIRE(unlink(mounted.path("f").c_str()) == 0);
    int orphans = 0;
    const Json after = Json::parse(contents(mounted.path(".pinfs/pins.json")));
    for (const Json& item : after["items"]) {
        CHECK(item["deleted"] == true);
        if (item["kind"] == "orphan") ++orphans;
    }
    CHECK(orphans == 1);

    const std::string metrics = contents(mounted.path(".pinfs/metrics"));
    for (const std::string& figure :
         {"contexts 1"s, "leases 2"s, "maps 1"s, "mapped_bytes " + std::to_string(mapped),
          "pins 1"s, "pinned_bytes 4096"s, "holds 1"s, "held_bytes " + std::to_string(held)}) {
        const std::string line = "\npinfs_" + figure + "\n";
        CAPTURE(line);
        CHECK(metrics.find(line) != metrics.npos);
    }
}

TEST_CASE("user.pinfs.pins are the pins of one file", "[mount][reports]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor f = file_of(mounted, "f", 8);
    const Descriptor g = file_of(mounted, "g", 8);
    REQUIRE(context.lease(f.get(), kExclusiveLease, 0, 0).error == 0);
    CHECK(attribute_of(mounted.path("f"), "user.pinfs.pins").empty());
    const auto pin = pin_block(context, f.get(), 3);
    CHECK(attribute_of(mounted.path("f"), "user.pinfs.pins") ==
          std::to_string(pin.id) + " 12288 4096 " + std::to_string(getpid()) + " (" +
              command_of_this() + ")\n");
    CHECK(attribute_of(mounted.path("g"), "user.pinfs.pins").empty());
    CHECK(listxattr(mounted.path("f").c_str(), nullptr, 0) == 0);
    CHECK(errno_if(setxattr(mounted.path("f").c_str(), "user.pinfs.pins", "", 0, 0)) == EPERM);
    CHECK(errno_if(removexattr(mounted.path("f").c_str(), "user.pinfs.pins")) == EPERM);
    CHECK(errno_if(getxattr(mounted.root().c_str(), "user.pinfs.pins", nullptr, 0)) == ENODATA);
}

TEST_CASE("a report shows what it showed when it was opened", "[mount][reports]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor file = file_of(mounted, "f", 8);
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    const auto pin = pin_block(context, file.get(), 0);
    const std::string text = contents(mounted.path(".file_pins"));
    const Descriptor before{mounted.path(".file_pins"), O_RDONLY};
    char half[8] = {};
    REQUIRE(read(before.get(), half, sizeof(half)) == sizeof(half));
    REQUIRE(context.unpin(pin.id, pin.generation).error == 0);
    CHECK(std::string(half, sizeof(half)) + rest_of(before.get()) == text);
    REQUIRE(lseek(before.get(), 0, SEEK_SET) == 0);
    CHECK(rest_of(before.get()) == text);
    CHECK(contents(mounted.path(".file_pins")).empty());
}

TEST_CASE("a user sees what is that user's, by the credentials at open", "[mount][reports]") {
    KernelMount mounted;
    mounted.mount("report_gid=4242");
    const RawContext context{mounted.root()};
    const Descriptor file = file_of(mounted, "of-root", 8);
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    pin_block(context, file.get(), 0);
    write_file(mounted.path("of-user"), std::string(kBlock, 'x'));
    REQUIRE(chown(mounted.path("of-user").c_str(), 1000, 1000) == 0);
    const Descriptor opened_by_root{mounted.path(".file_pins"), O_RDONLY};
    const auto sees = [&](const std::string& report, const std::string& word) {
        return contents(mounted.path(report)).find(word) != std::string::npos;
    };
    const auto as = [&](uid_t uid, gid_t gid, const std::function<bool()>& question) {
        return in_child([&] {
            if (setgroups(0, nullptr) != 0 || setresgid(gid, gid, gid) != 0 ||
                setresuid(uid, uid, uid) != 0)
                return 100;
            return question() ? 1 : 0;
        });
    };
    for (const char* report : {".file_pins", ".pinfs/pins.json"}) {
        CAPTURE(report);
        CHECK(sees(report, "/of-root"));
        CHECK(as(1000, 1000, [&] { return sees(report, "/of-root"); }) == 0);
        CHECK(as(1000, 4242, [&] { return sees(report, "/of-root"); }) == 1);
    }
    CHECK(as(1000, 1000, [&] {
              return !attribute_of(mounted.path("of-user"), "user.pinfs.pins").empty();
          }) == 0);
    CHECK(sees(".pinfs/log", " is mounted on " + mounted.root()));
    CHECK(as(1000, 1000, [&] { return contents(mounted.path(".pinfs/log")).empty(); }) == 1);
    CHECK(as(1000, 1000, [&] { return sees(".pinfs/metrics", "\npinfs_pins 0\n"); }) == 1);
    CHECK(sees(".pinfs/metrics", "\npinfs_pins 1\n"));
    CHECK(as(1000, 1000, [&] { return !rest_of(opened_by_root.get()).empty(); }) == 1);
    // One's own, and no more.
    CHECK(as(1000, 1000, [&] {
              const RawContext own{mounted.root()};
              const Descriptor mine{mounted.path("of-user"), O_RDWR};
              if (own.lease(mine.get(), kExclusiveLease, 0, 0).error != 0) return false;
              if (own.pin(mine.get(), 0, kBlock).error != 0) return false;
              return sees(".file_pins", "/of-user") && !sees(".file_pins", "/of-root") &&
                     sees(".pinfs/pins.json", "/of-user") &&
                     !sees(".pinfs/pins.json", "/of-root") &&
                     !attribute_of(mounted.path("of-user"), "user.pinfs.pins").empty() &&
                     sees(".pinfs/metrics", "\npinfs_pins 1\n") &&
                     sees(".pinfs/metrics", "\npinfs_contexts 1\n");
          }) == 1);
}

TEST_CASE("of a process in another pid namespace a context owns, and it is listed without number",
          "[mount][reports]") {
    KernelMount mounted;
    mounted.mount_in_foreground({}, {"unshare", "--pid", "--fork", "--kill-child"});
    {
        const RawContext context{mounted.root()};
        REQUIRE(context.hello().error == 0);
        const Descriptor file = file_of(mounted, "f", 8);
        REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
        pinfs_ioc_pin words{};
        words.owner = PINFS_IOC_OWNER_PROCESS;
        words.owner_fd = -1;
        const Outcome refused = context.pin(file.get(), 0, kBlock, words);
        CHECK(refused.error == EPERM);
        CHECK(refused.sentence.find("another pid namespace") != refused.sentence.npos);
        const Descriptor device{"/dev/zero", O_RDONLY};
        const auto pin = pin_block(context, file.get(), 0, device.get());
        CHECK(contents(mounted.path(".file_pins")) ==
              "pid -\ncontext " + std::to_string(context.id()) + "\n\t/f\n");
        const Json json = Json::parse(contents(mounted.path(".pinfs/pins.json")));
        CHECK(json["items"][0]["pid"] == 0);
        CHECK(json["items"][0]["container"].is_null());
        CHECK(errno_if(truncate(mounted.path("f").c_str(), 0)) == EBUSY);
        CHECK(context.unpin(pin.id, pin.generation).error == 0);
        CHECK(contents(mounted.path(".file_pins")).empty());
    }
    mounted.unmount();
    CHECK(mounted.wait_for_daemon() == 0);
    mounted.check();
}

TEST_CASE("a process in a pid namespace below ours owns, under our number", "[mount][reports]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), std::string(kBlock, 'x'));
    CHECK(in_child([&] {
              if (unshare(CLONE_NEWPID) != 0) return 100;
              return in_child([&] {
                  const RawContext context{mounted.root()};
                  const Descriptor file{mounted.path("f"), O_RDWR};
                  if (context.lease(file.get(), kExclusiveLease, 0, 0).error != 0) return 1;
                  pinfs_ioc_pin words{};
                  words.owner = PINFS_IOC_OWNER_PROCESS;
                  words.owner_fd = -1;
                  if (context.pin(file.get(), 0, kBlock, words).error != 0) return 2;
                  const std::string text = contents(mounted.path(".file_pins"));
                  if (!text.starts_with("pid ") || text.starts_with("pid 1 (")) return 3;
                  if (!text.ends_with("\n/f\n")) return 4;
                  return context.unpin(words.id, words.generation).error == 0 ? 0 : 5;
              });
          }) == 0);
}

TEST_CASE("times advance where a writable map or pin begins and ends, and stat shows it",
          "[mount][reports]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor file = file_of(mounted, "f", 4);
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    std::uint64_t guard_id = 0;
    Descriptor guard = context.guard(guard_id);
    timespec last{};
    const auto shown = [&] {
        struct stat st {};
        REQUIRE(fstat(file.get(), &st) == 0);
        return st.st_mtim;
    };
    const auto advances = [&] {
        for (int i = 0; i < 500; ++i) {
            const timespec now = shown();
            const bool later = now.tv_sec > last.tv_sec ||
                               (now.tv_sec == last.tv_sec && now.tv_nsec > last.tv_nsec);
            last = now;
            if (later) return true;
            usleep(10'000);
        }
        return false;
    };
    last = shown();
    const auto pin = pin_block(context, file.get(), 0);
    CHECK(advances());
    CHECK(context.unpin(pin.id, pin.generation).error == 0);
    CHECK(advances());
    pinfs_ioc_map map{};
    map.flags = PINFS_IOC_MAP_WRITE;
    REQUIRE(context.map(file.get(), guard_id, 0, kBlock, map).error == 0);
    CHECK(advances());
    CHECK(fsync(file.get()) == 0);
    CHECK(advances());
    pinfs_ioc_map_range range{};
    range.map = map.id;
    CHECK(ask(context.get(), PINFS_IOC_UNMAP, range).error == 0);
    CHECK(advances());
    // And where a guard went with its process.
    REQUIRE(context.map(file.get(), guard_id, 0, kBlock, map).error == 0);
    CHECK(advances());
    guard.reset();
    CHECK(advances());
    // Nobody stores through a map for reading.
    usleep(50'000);
    last = shown();
    guard = context.guard(guard_id);
    map.flags = 0;
    REQUIRE(context.map(file.get(), guard_id, 0, kBlock, map).error == 0);
    usleep(50'000);
    CHECK(shown().tv_nsec == last.tv_nsec);
}

TEST_CASE("what was refused stands in the log, with file, range and holder", "[mount][reports]") {
    KernelMount mounted;
    mounted.mount_in_foreground();
    {
        const RawContext context{mounted.root()};
        const Descriptor file = file_of(mounted, "a\nb", 8);
        REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
        const auto pin = pin_block(context, file.get(), 3);
        const std::string path = mounted.path("a\nb");
        REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
        CHECK(errno_if(truncate(path.c_str(), 2 * kBlock)) == EBUSY);
        const std::string log = mounted.log();
        CAPTURE(log);
        CHECK(log.find("truncate of /a\\012b was refused") != log.npos);
        CHECK(log.find("[8192, end)") != log.npos);
        CHECK(log.find(" of process " + std::to_string(getpid()) + " (" + command_of_this() +
                       ")") != log.npos);
        CHECK(errno_if(fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * kBlock,
                                 kBlock)) == EBUSY);
        CHECK(mounted.log().find("[12288, 16384)") != std::string::npos);
        CHECK(!Descriptor{path, O_WRONLY | O_TRUNC}.is_open());
        CHECK(mounted.log().find("open of /a\\012b was refused") != std::string::npos);
        // Many refusals are few lines.
        for (int i = 0; i < 1000; ++i) CHECK(errno_if(truncate(path.c_str(), 0)) == EBUSY);
        const std::string all = mounted.log();
        int lines = 0;
        for (std::size_t at = 0; (at = all.find("was refused", at)) != all.npos; ++at) ++lines;
        CHECK(lines < 100);
        CHECK(context.unpin(pin.id, pin.generation).error == 0);
    }
    mounted.unmount();
    CHECK(mounted.wait_for_daemon() == 0);
}

TEST_CASE("reports of 50000 pins are whole, and one user's open ones are bounded",
          "[mount][reports]") {
    KernelMount mounted{256};
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor file = file_of(mounted, "f", 1);
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    constexpr int kPins = 50'000;
    for (int i = 0; i < kPins; ++i)
        if (context.pin(file.get(), 0, kBlock).error != 0) FAIL(i);
    const Json report = Json::parse(contents(mounted.path(".pinfs/pins.json")));
    CHECK(report["items"].size() == kPins + 1);
    CHECK(contents(mounted.path(".file_pins")).ends_with("\n\t/f\n"));
    CHECK(errno_if(getxattr(mounted.path("f").c_str(), "user.pinfs.pins", nullptr, 0)) == E2BIG);
    std::vector<Descriptor> open_reports;
    while (open_reports.size() < 1000) {
        open_reports.emplace_back(mounted.path(".pinfs/pins.json"), O_RDONLY);
        if (!open_reports.back().is_open()) break;
    }
    CHECK(open_reports.size() < 1000);
    CHECK(errno == EMFILE);
    CHECK(in_child([&] {
              if (setresuid(1000, 1000, 1000) != 0) return 100;
              return Descriptor{mounted.path(".file_pins"), O_RDONLY}.is_open() ? 0 : 1;
          }) == 0);
    open_reports.clear();
    for (int i = 0; i < 500; ++i) {
        if (Descriptor{mounted.path(".file_pins"), O_RDONLY}.is_open()) break;
        usleep(10'000);
    }
    CHECK(Descriptor{mounted.path(".file_pins"), O_RDONLY}.is_open());
}
