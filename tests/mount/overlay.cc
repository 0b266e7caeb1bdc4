// SPDX-License-Identifier: Apache-2.0
//
// As the upper layer of an overlay: whiteouts, opaque directories, copying up.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

/// An overlay on `mounted`, over files of the same file system or of a tmpfs.
class Overlay {
public:
    Overlay(const KernelMount& mounted, const std::string& lower)
        : lower_{lower}, top_{mounted.outside("merged")}, upper_{mounted.path("upper")} {
        for (const std::string& path : {lower_, lower_ + "/d", upper_, mounted.path("work"), top_})
            mkdir(path.c_str(), 0755);
        for (const char* name : {"/f", "/g", "/d/one", "/d/two"}) write_file(lower_ + name, name);
        const std::string options =
            "lowerdir=" + lower_ + ",upperdir=" + upper_ + ",workdir=" + mounted.path("work");
        const int result = ::mount("overlay", top_.c_str(), "overlay", 0, options.c_str());
        is_known = result == 0 || errno != ENODEV;
        REQUIRE((!is_known || result == 0));
    }
    ~Overlay() {
        umount2(top_.c_str(), MNT_DETACH);
        rmdir(top_.c_str());
    }
    Overlay(const Overlay&) = delete;
    Overlay& operator=(const Overlay&) = delete;

    [[nodiscard]] std::string merged(const std::string& name) const { return top_ + "/" + name; }
    [[nodiscard]] std::string upper(const std::string& name) const { return upper_ + "/" + name; }
    bool is_known = false;

private:
    const std::string lower_, top_, upper_;
};

bool is_whiteout(const std::string& path) {
    struct stat st {};
    return lstat(path.c_str(), &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

}  // namespace

TEST_CASE("it serves as the upper layer of an overlay", "[mount][overlay]") {
    KernelMount mounted;
    mounted.mount();
    const bool same = GENERATE(false, true);
    {
        const Overlay overlay{mounted, same ? mounted.path("lower") : mounted.outside("lower")};
        if (!overlay.is_known) {
            WARN("not tested: this kernel has no overlayfs");
            return;
        }
        // A removed name is a whiteout, a renamed one leaves a whiteout.
        REQUIRE(unlink(overlay.merged("f").c_str()) == 0);
        CHECK(is_whiteout(overlay.upper("f")));
        REQUIRE(rename(overlay.merged("d/one").c_str(), overlay.merged("d/new").c_str()) == 0);
        CHECK(is_whiteout(overlay.upper("d/one")));
        CHECK(contents(overlay.merged("d/new")) == "/d/one");
        // A directory made anew is opaque: a trusted attribute says so.
        REQUIRE(run({"rm", "-r", overlay.merged("d")}).status == 0);
        CHECK(is_whiteout(overlay.upper("d")));
        REQUIRE(mkdir(overlay.merged("d").c_str(), 0755) == 0);
        char value = 0;
        CHECK(getxattr(overlay.upper("d").c_str(), "trusted.overlay.opaque", &value, 1) == 1);
        CHECK(run({"ls", overlay.merged("d")}).out.empty());
        // Copied up at the first write, whole.
        const int file = open(overlay.merged("g").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
        REQUIRE(write(file, "+", 1) == 1);
        close(file);
        CHECK(contents(overlay.upper("g")) == "/g+");
        // A file without a name, and the exchange of two names.
        const int unnamed = open(overlay.merged("").c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (unnamed < 0 && errno == EOPNOTSUPP) {
            const int below = open(overlay.upper("").c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
            CHECK(below >= 0);  // so it is the overlay that has none
            close(below);
            WARN("skipped: overlays of this kernel have no files without a name");
        } else {
            CHECK(unnamed >= 0);
            close(unnamed);
        }
        write_file(overlay.merged("h"), "h");
        CHECK(renameat2(AT_FDCWD, overlay.merged("h").c_str(), AT_FDCWD,
                        overlay.merged("g").c_str(), RENAME_EXCHANGE) == 0);
        CHECK(contents(overlay.merged("h")) == "/g+");
    }
    mounted.unmount();
    mounted.check();
}
