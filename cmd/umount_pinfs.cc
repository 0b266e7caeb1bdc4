// SPDX-License-Identifier: Apache-2.0
//
// umount.pinfs, also as umount.fuse.pinfs: what umount(8) calls. `umount.pinfs DIR [-flnrv] [-t
// type]`. Exit codes are those of mount.pinfs.
#include <CLI/CLI.hpp>
#include <string>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/umount.h"

namespace {

int run(int count, char** words) {
    CLI::App app{"Helper of umount(8) for regions; people use umount or pinfs umount"};
    app.name("umount.pinfs");
    app.set_version_flag("-V,--version", std::string{"umount.pinfs "} + PINFS_VERSION);

    pinfs::cmd::UnmountCommand unmount;
    unmount.program = "umount.pinfs";
    bool ignored = false;
    std::string ignored_value;
    app.add_option("DIR", unmount.target, "Where it is mounted, or its region")
        ->type_name("")
        ->required();
    app.add_flag("-f", unmount.force, "Though the daemon does not answer");
    app.add_flag("-l", unmount.lazy, "Now, though files are open: they live on");
    app.add_flag("-n", ignored, "Ignored: there is no mtab");
    app.add_flag("-i", ignored, "Ignored: this is the helper");
    app.add_flag("-r", unmount.read_only_if_busy, "If it is in use, make it read-only");
    app.add_flag("-v", unmount.verbose, "Say what was done");
    app.add_option("-t", ignored_value, "Ignored: the type");

    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& stop) {
        if (stop.get_exit_code() == 0) return app.exit(stop);
        return pinfs::cmd::complain("umount.pinfs", pinfs::cmd::kUsage, stop.what());
    }
    return pinfs::cmd::unmount(unmount);
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(count, words);
    } catch (const std::exception& failure) {
        return pinfs::cmd::complain("umount.pinfs", pinfs::cmd::kSystem, failure.what());
    }
}
