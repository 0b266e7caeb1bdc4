// SPDX-License-Identifier: Apache-2.0
//
// pinfs: mounts, unmounts and describes regions.
#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/info.h"
#include "cmd/mount.h"
#include "cmd/umount.h"
#include "fs/fuse/session.h"

namespace {

using pinfs::cmd::kUsage;

std::string version_text() {
    return std::string{"pinfs "} + PINFS_VERSION + " (libfuse " + pinfs::fuse::library_version() +
           (pinfs::fuse::built_with_io_uring() ? ", io_uring" : "") + ")";
}

int run(int count, char** words) {
    CLI::App app{"A file system on a region of byte-addressable memory"};
    app.name("pinfs");
    app.set_version_flag("--version", version_text());
    app.require_subcommand(1);
    app.failure_message(CLI::FailureMessage::simple);

    pinfs::cmd::MountCommand mount;
    mount.program = "pinfs mount";
    CLI::App* const mounting =
        app.add_subcommand("mount", "Mount REGION on the directory MOUNTPOINT");
    mounting->add_option("REGION", mount.region, "A file or device that mkfs.pinfs prepared")
        ->type_name("")
        ->required();
    mounting->add_option("MOUNTPOINT", mount.mountpoint, "A directory")->type_name("")->required();
    mounting->add_option("-o", mount.options, "Options, joined by commas")
        ->type_name("OPTIONS")
        ->allow_extra_args(false);
    mounting->add_flag("-f,--foreground", mount.foreground, "Stay in the foreground");
    mounting->add_flag("-v,--verbose", mount.verbose, "Log more");

    pinfs::cmd::UnmountCommand unmount;
    unmount.program = "pinfs umount";
    CLI::App* const unmounting =
        app.add_subcommand("umount", "Unmount, and wait until the region is free");
    unmounting->add_option("MOUNTPOINT", unmount.target, "Where it is mounted, or its region")
        ->type_name("")
        ->required();
    unmounting->add_flag("-l,--lazy", unmount.lazy, "Now, though files are open: they live on");
    unmounting->add_flag("-f,--force", unmount.force, "Though the daemon does not answer");
    unmounting->add_flag("-r,--read-only", unmount.read_only_if_busy,
                         "If it is in use, make it read-only");
    unmounting->add_flag("-v,--verbose", unmount.verbose, "Say what was done");

    std::string info_target;
    bool json = false;
    CLI::App* const describing = app.add_subcommand("info", "Describe a region");
    describing->add_option("REGION", info_target, "A region, or where it is mounted")
        ->type_name("")
        ->required();
    describing->add_flag("--json", json, "As JSON");

    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& stop) {
        if (stop.get_exit_code() == 0) return app.exit(stop);  // --help, --version
        return pinfs::cmd::complain("pinfs", kUsage,
                                    std::string{stop.what()} + " (see pinfs --help)");
    }
    if (mounting->parsed()) return mount_region(mount);
    if (unmounting->parsed()) return pinfs::cmd::unmount(unmount);
    return pinfs::cmd::show_info("pinfs info", info_target, json);
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(count, words);
    } catch (const std::exception& failure) {
        return pinfs::cmd::complain("pinfs", pinfs::cmd::kSystem, failure.what());
    }
}
