// SPDX-License-Identifier: Apache-2.0
//
// `pinfs upgrade` to programs that are not the one that serves: another version, and what is no
// daemon at all. The program is a copy of this build's; another version differs in what it says.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <pinfs.hpp>
#include <string>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

[[maybe_unused]] const bool all_cases_do = needs_supervision();

constexpr const char* kVersion = PINFS_VERSION;
constexpr const char* kOtherVersion = "99.0";

std::string program_of(const std::string& version) {
    return contents(std::string{PINFS_COMMAND_DIR} +
                    (version == kVersion ? "/pinfs" : "/../tests/pinfs_of_another_version"));
}

/// A supervised mount by a program of our own, which tests exchange.
class Installed {
public:
    Installed() {
        install(program_of(kVersion));
        mount_.mount_in_foreground("supervise",
                                   // shifts away the name of the build's program
                                   {"sh", "-c", R"(shift; exec "$0" "$@")", program_});
    }

    /// As packages do: a new file in place of the old.
    void install(const std::string& bytes) {
        const std::string made = program_ + ".new";
        write_file(made, bytes);
        REQUIRE(chmod(made.c_str(), 0755) == 0);
        std::filesystem::rename(made, program_);
    }
    void remove() { REQUIRE(std::filesystem::remove(program_)); }

    Ran upgrade() { return run({"pinfs", "upgrade", mount_.root()}); }
    [[nodiscard]] std::string serving_version() const {
        const std::string metrics = contents(mount_.path(".pinfs/metrics"));
        const std::string key = "pinfs_info{version=\"";
        const std::size_t at = metrics.find(key);
        REQUIRE(at != std::string::npos);
        return metrics.substr(at + key.size(),
                              metrics.find('"', at + key.size()) - at - key.size());
    }
    KernelMount& mount() { return mount_; }
    void end() {
        CHECK(run({"pinfs", "umount", mount_.root()}).status == 0);
        CHECK(mount_.wait_for_daemon() == 0);
        mount_.check();
    }

private:
    KernelMount mount_{128};
    TemporaryDirectory directory_;
    const std::string program_ = directory_.file("pinfs");
};

}  // namespace

TEST_CASE("an upgrade to another version and back keeps files, leases, maps and pins",
          "[mount][supervised]") {
    constexpr std::uint64_t kBytes = 1 << 20;
    Installed installed;
    {
        const TestFile file{installed.mount().path("f")};
        file.resize(kBytes);
        pinfs::Context context{installed.mount().root()};
        const pinfs::Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE, 0,
                                 kBytes};
        const pinfs::Map map{context, file.fd(), 0, kBytes};
        const pinfs::Pin pin{context, file.fd(), 0, 4096};

        for (const std::string& version : {std::string{kOtherVersion}, std::string{kVersion}}) {
            CAPTURE(version);
            const std::string before = installed.serving_version();
            installed.install(program_of(version));
            const Ran ran = installed.upgrade();
            INFO(ran.err + installed.mount().log());
            CHECK(ran.status == 0);
            CHECK(ran.out == before + " -> " + version + "\n");
            CHECK(installed.serving_version() == version);

            file.write(100, version);
            CHECK(std::memcmp(map.data() + 100, version.data(), version.size()) == 0);
            CHECK(errno_if(ftruncate(file.fd(), 0)) == EBUSY);
            CHECK(contents(installed.mount().path(".file_pins")).find("/f") != std::string::npos);
        }
    }
    installed.end();
}

TEST_CASE("a program that cannot serve is refused, and the daemon goes on", "[mount][supervised]") {
    Installed installed;
    write_file(installed.mount().path("f"), "kept");
    const auto refused = [&](const std::string& why) {
        CAPTURE(why);
        const Ran ran = installed.upgrade();
        CHECK(ran.status == 32);
        CHECK(ran.out.empty());
        CHECK(ran.err.find(why) != std::string::npos);
        CHECK(contents(installed.mount().path("f")) == "kept");
        CHECK(installed.serving_version() == kVersion);
    };
    installed.install(contents("/bin/false"));
    refused("does not start");
    installed.install("no program\n");
    refused("does not start");
    installed.remove();
    refused("No such file or directory");

    installed.install(program_of(kOtherVersion));
    CHECK(installed.upgrade().status == 0);
    CHECK(installed.serving_version() == kOtherVersion);
    CHECK(contents(installed.mount().path("f")) == "kept");
    installed.end();
}
