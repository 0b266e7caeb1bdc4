// SPDX-License-Identifier: Apache-2.0
//
// mount.pinfs: what mount(8) calls for the type pinfs. `mount.pinfs REGION DIR [-sfnv] [-o opts]`.
#include <CLI/CLI.hpp>
#include <string>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/mount.h"

namespace {

int run(int count, char** words) {
    CLI::App app{"Helper of mount(8) for regions; people use pinfs mount"};
    app.name("mount.pinfs");
    app.set_version_flag("-V,--version", std::string{"mount.pinfs "} + PINFS_VERSION);

    pinfs::cmd::MountCommand mount;
    mount.program = "mount.pinfs";
    bool ignored = false;
    std::string ignored_value;
    app.add_option("REGION", mount.region)->type_name("")->required();
    app.add_option("DIR", mount.mountpoint)->type_name("")->required();
    app.add_option("-o", mount.options, "Options, joined by commas")
        ->type_name("OPTIONS")
        ->allow_extra_args(false);
    app.add_flag("-s", mount.sloppy, "Pass over unknown options");
    app.add_flag("-f", mount.fake, "Check everything, mount nothing");
    app.add_flag("-n", ignored, "Ignored: there is no mtab");
    app.add_flag("-v", mount.verbose, "Log more");
    app.add_option("-t", ignored_value, "Ignored: the type");

    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& stop) {
        if (stop.get_exit_code() == 0) return app.exit(stop);
        return pinfs::cmd::complain("mount.pinfs", pinfs::cmd::kUsage, stop.what());
    }
    return mount_region(mount);
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(count, words);
    } catch (const std::exception& failure) {
        return pinfs::cmd::complain("mount.pinfs", pinfs::cmd::kSystem, failure.what());
    }
}
