// SPDX-License-Identifier: Apache-2.0
//
// pinfs: mounts, unmounts and describes regions and what is in them.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cmd/background.h"
#include "cmd/dax.h"
#include "cmd/df.h"
#include "cmd/exit_codes.h"
#include "cmd/extents.h"
#include "cmd/holding.h"
#include "cmd/info.h"
#include "cmd/mount.h"
#include "cmd/pins.h"
#include "cmd/report.h"
#include "cmd/run_command.h"
#include "cmd/sandbox.h"
#include "cmd/scrub.h"
#include "cmd/stats.h"
#include "cmd/tune.h"
#include "cmd/umount.h"
#include "cmd/upgrade.h"
#include "fs/fuse/session.h"

namespace {

using namespace pinfs::cmd;

std::string version_text() {
    return std::string{"pinfs "} + PINFS_VERSION + " (libfuse " + pinfs::fuse::library_version() +
           (pinfs::fuse::built_with_io_uring() ? ", io_uring" : "") + ")";
}

constexpr const char* kRunnerFooter =
    "The command stands behind --. Exit status: the command's; 125 pinfs failed, 126 it cannot be\n"
    "run, 127 it is not there; 128 + N after signal N.";

/// What the command line asks for; set by the subcommand that was given.
using Action = std::function<int()>;

void add_mount(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand("mount", "Mount REGION on the directory MOUNTPOINT");
    auto command = std::make_shared<MountCommand>();
    command->program = "pinfs mount";
    words
        ->add_option("REGION", command->region,
                     "A file or device that mkfs.pinfs prepared, or LABEL=... or UUID=...")
        ->type_name("")
        ->required();
    words->add_option("MOUNTPOINT", command->mountpoint, "A directory")->type_name("")->required();
    words->add_option("-o", command->options, "Options, joined by commas: see mount.pinfs(8)")
        ->type_name("OPTIONS")
        ->allow_extra_args(false);
    words->add_flag("-f,--foreground", command->foreground, "Stay in the foreground");
    words->add_flag_callback(
        "--supervise", [command] { command->options.emplace_back("supervise"); },
        "Go on with another daemon when one crashes, or on pinfs upgrade");
    words->add_flag("-v,--verbose", command->verbose, "Log more");
    words->callback([&action, command] {
        action = [command] {
            return mount_region(*command);
        };
    });
}

void add_upgrade(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand(
        "upgrade", "Have a supervised mount go on with the program that is installed now");
    auto command = std::make_shared<UpgradeCommand>();
    command->program = "pinfs upgrade";
    words->add_option("MOUNTPOINT", command->mountpoint, "Where it is mounted, or its region")
        ->type_name("")
        ->required();
    words->callback([&action, command] {
        action = [command] {
            return upgrade(*command);
        };
    });
}

void add_unmount(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand("umount", "Unmount, and wait until the region is free");
    auto command = std::make_shared<UnmountCommand>();
    command->program = "pinfs umount";
    words->add_option("MOUNTPOINT", command->target, "Where it is mounted, or its region")
        ->type_name("")
        ->required();
    words->add_flag("-l,--lazy", command->lazy, "Now, though files are open: they live on");
    words->add_flag("-f,--force", command->force, "Though the daemon does not answer");
    words->add_flag("-r,--read-only", command->read_only_if_busy,
                    "If it is in use, make it read-only");
    words->add_flag("-v,--verbose", command->verbose, "Say what was done");
    words->callback([&action, command] {
        action = [command] {
            return unmount(*command);
        };
    });
}

void add_info(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand("info", "Describe a region");
    auto command = std::make_shared<InfoCommand>();
    command->program = "pinfs info";
    words->add_option("REGION", command->target, "A region, or where it is mounted")
        ->type_name("")
        ->required();
    auto* const json = words->add_flag("--json", command->json, "As JSON");
    words->add_flag("--udev", command->udev, "Its names alone, as udev rules import them")
        ->excludes(json);
    words->callback([&action, command] {
        action = [command] {
            return show_info(*command);
        };
    });
}

struct PathsCommand {
    std::vector<std::string> paths;
    bool json = false;
};

void add_df(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand("df", "Show how full mounted regions are");
    auto command = std::make_shared<PathsCommand>();
    words->add_option("PATH", command->paths, "Mount points, regions or files; default: all")
        ->type_name("");
    words->add_flag("--json", command->json, "As JSON, in bytes");
    words->callback([&action, command] {
        action = [command] {
            return show_usage("pinfs df", command->paths, command->json);
        };
    });
}

void add_dax(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand("dax", "Show or change the DAX flag of files");
    words->require_subcommand(1);
    struct Verb {
        const char* name;
        DaxCommand::Do what;
        const char* text;
    };
    for (const Verb& verb :
         {Verb{"on", DaxCommand::Do::on, "Set it: at once, or when the file is open nowhere"},
          Verb{"off", DaxCommand::Do::off, "Clear it: at once, or when the file is open nowhere"},
          Verb{"show", DaxCommand::Do::show, "Show it"}}) {
        auto* const doing = words->add_subcommand(verb.name, verb.text);
        auto command = std::make_shared<DaxCommand>();
        command->program = std::string{"pinfs dax "} + verb.name;
        command->what = verb.what;
        doing->add_option("PATH", command->paths, "Files and directories")
            ->type_name("")
            ->required();
        doing->add_flag("-R,--recursive", command->recursive, "And all below directories");
        doing->add_flag("--json", command->json, "What the flags are then, as JSON");
        doing->callback([&action, command] {
            action = [command] {
                return dax(*command);
            };
        });
    }
}

void add_extents(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand("extents", "Show where files lie in their region");
    auto command = std::make_shared<PathsCommand>();
    words->add_option("FILE", command->paths, "Regular files on a pinfs")
        ->type_name("")
        ->required();
    words->add_flag("--json", command->json, "As JSON, in bytes");
    words->callback([&action, command] {
        action = [command] {
            return show_extents("pinfs extents", command->paths, command->json);
        };
    });
}

void add_tune(CLI::App& app, Action& action) {
    auto* const words =
        app.add_subcommand("tune", "Change label or uuid of a region that is not mounted");
    auto command = std::make_shared<TuneCommand>();
    command->program = "pinfs tune";
    words->add_option("REGION", command->region, "A file or device")->type_name("")->required();
    words->add_option("-L,--label", command->label, "Up to 64 bytes; '' takes it away")
        ->type_name("LABEL");
    words->add_option("-U,--uuid", command->uuid, "random, or one")->type_name("UUID");
    words->add_flag("--json", command->json, "What they are then, as JSON");
    words->callback([&action, command] {
        action = [command] {
            return tune(*command);
        };
    });
}

void add_pins(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand(
        "pins", "Show leases, maps, pins, holds and orphans, and who has them; end one");
    auto command = std::make_shared<PinsCommand>();
    command->program = "pinfs pins";
    auto* const path = words
                           ->add_option("PATH", command->path,
                                        "A mount, its region, or a file or directory in it; "
                                        "default: all mounts")
                           ->type_name("");
    words->add_option("--pid", command->pid, "Of this process alone")
        ->type_name("N")
        ->excludes(path);
    auto* const json = words->add_flag("--json", command->json, "As JSON, in bytes");
    auto* const end =
        words->add_option("--revoke", command->end, "End this lease, map or pin")->type_name("ID");
    end->excludes(json);
    words->add_option("--grace", command->grace_seconds, "Until it is taken away; default 10")
        ->type_name("SECONDS")
        ->needs(end);
    words
        ->add_flag("--kill", command->kill,
                   "End its owner too, and who shares its context: SIGTERM, after the grace "
                   "SIGKILL")
        ->needs(end);
    words->callback([&action, command] {
        action = [command] {
            return pins(*command);
        };
    });
}

void add_holds(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand(
        "holds", "Show blocks that no file has, but a device or a map may still reach");
    auto command = std::make_shared<PinsCommand>();
    command->program = "pinfs holds";
    command->holds = true;
    words
        ->add_option("PATH", command->path,
                     "A mount, its region, or a file or directory in it; default: all mounts")
        ->type_name("");
    auto* const json = words->add_flag("--json", command->json, "As JSON, in bytes");
    auto* const end =
        words->add_option("--release", command->end, "End this one without proof")->type_name("ID");
    end->excludes(json);
    words->add_flag("--yes", command->yes, "Do not ask")->needs(end);
    words->callback([&action, command] {
        action = [command] {
            return pins(*command);
        };
    });
}

void add_stats(CLI::App& app, Action& action) {
    auto* const words = app.add_subcommand("stats", "Show what a mount does, again and again");
    auto command = std::make_shared<StatsCommand>();
    command->program = "pinfs stats";
    words->add_option("MOUNT", command->target, "A mount point or its region")
        ->type_name("")
        ->required();
    auto* const interval =
        words->add_option("--interval", command->interval_seconds, "Between two looks; default 1")
            ->type_name("SECONDS");
    auto* const count =
        words->add_option("--count", command->count, "So many intervals; default: for ever")
            ->type_name("N")
            ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1000000000}));
    words->add_flag("--once", command->once, "What was since the daemon began, at once")
        ->excludes(interval)
        ->excludes(count);
    words->add_flag("--json", command->json, "As JSON, a line for each interval, in seconds");
    words->callback([&action, command] {
        action = [command] {
            return show_stats(*command);
        };
    });
}

void add_report(CLI::App& app, Action& action) {
    auto* const words =
        app.add_subcommand("report", "Gather what a report of a bug needs in one archive");
    auto command = std::make_shared<ReportCommand>();
    command->program = "pinfs report";
    words->add_option("TARGET", command->target, "A mount point or a region")
        ->type_name("")
        ->required();
    words->add_option("-o,--output", command->output, "The archive; default: a name of its own")
        ->type_name("FILE");
    words->add_flag("--names", command->names,
                    "Names of users' files too, where reports have them");
    words->footer("Nothing of what is in files is in it. about.txt in the archive says what is.");
    words->callback([&action, command] {
        action = [command] {
            return make_report(*command);
        };
    });
}

void add_scrub(CLI::App& app, Action& action) {
    auto* const words =
        app.add_subcommand("scrub", "Verify the checksums of a mounted file system");
    auto command = std::make_shared<ScrubCommand>();
    command->program = "pinfs scrub";
    words->add_option("MOUNT", command->target, "A mount point or its region")
        ->type_name("")
        ->required();
    words->add_flag("--data", command->data,
                    "Read the files' data too: what the region does not answer for is found");
    words->add_flag("--json", command->json, "What was found, as JSON");
    words->footer(
        "What is damaged is shown with its place. Ends with 0 if nothing is, 4 if something is.");
    words->callback([&action, command] {
        action = [command] {
            return scrub(*command);
        };
    });
}

/// What stands behind `--`: a program to run, and its words, none of them ours.
using Words = std::vector<std::string>;

void add_sandbox(CLI::App& app, Action& action, const Words& program) {
    auto* const words =
        app.add_subcommand("sandbox", "Run a command with a pinfs of its own, gone afterwards");
    auto command = std::make_shared<SandboxCommand>();
    command->program = "pinfs sandbox";
    command->words = program;
    words->add_option("--size", command->size, "Of the region; default 256M")->type_name("SIZE");
    words->add_option("-o", command->options, "Options of the mount: see mount.pinfs(8)")
        ->type_name("OPTIONS")
        ->allow_extra_args(false);
    words->footer(kRunnerFooter);
    words->callback([&action, command] {
        action = [command] {
            return sandbox(*command);
        };
    });
}

/// `pinfs lease` and `pinfs pin`, as far as they are alike.
CLI::App* add_holding(CLI::App& app, Action& action, const Words& program,
                      const std::shared_ptr<HoldingCommand>& command, const char* text) {
    auto* const words = app.add_subcommand(command->program, text);
    command->program.insert(0, "pinfs ");
    command->words = program;
    words->add_option("FILE", command->file, "A regular file in DAX mode on a pinfs")
        ->type_name("")
        ->required();
    words->add_option("--range", command->range, "Such as 0:1M, or 4K: to the end; default: all")
        ->type_name("OFF:LEN");
    words->footer(kRunnerFooter);
    words->callback([&action, command] {
        action = [command] {
            return hold_while_running(*command);
        };
    });
    return words;
}

void add_lease(CLI::App& app, Action& action, const Words& program) {
    auto command = std::make_shared<HoldingCommand>();
    command->program = "lease";
    auto* const words =
        add_holding(app, action, program, command, "Run a command while we have a lease on a file");
    words->add_flag("--exclusive", command->exclusive,
                    "Its layout must not change; else we are only told");
    words->add_flag("--shared", command->shared, "Beside --exclusive: others may say so as well");
    words
        ->add_option("--on-event", command->on_event,
                     "When the layout changes or the lease is revoked: nothing (ack, default), or "
                     "this signal for the command")
        ->type_name("ack|SIGNAL");
}

void add_pin(CLI::App& app, Action& action, const Words& program) {
    auto command = std::make_shared<HoldingCommand>();
    command->program = "pin";
    command->pin = true;
    auto* const words = add_holding(app, action, program, command,
                                    "Run a command while we have pinned a file's blocks");
    words->add_flag("--read", command->device_reads_only, "For a device that only reads");
}

/// Whether the subcommand runs a program, and so has that program's exit status.
bool is_runner(const Words& words) {
    constexpr std::array<std::string_view, 3> kRunners{"lease", "pin", "sandbox"};
    return !words.empty() && std::ranges::find(kRunners, words.front()) != kRunners.end();
}

int run(int count, char** arguments) {
    Words words{arguments + 1, arguments + count};
    Words program;
    const bool runner = is_runner(words);
    if (runner) {
        const auto mark = std::ranges::find(words, "--");
        if (mark != words.end()) program.assign(mark + 1, words.end());
        words.erase(mark, words.end());
    }
    CLI::App app{"A file system on a region of byte-addressable memory"};
    app.name("pinfs");
    app.set_version_flag("-V,--version", version_text());
    app.require_subcommand(1);
    app.failure_message(CLI::FailureMessage::simple);
    app.footer(
        "Exit status: 0 done, 1 wrong usage or no permission, 2 the machine lacks something,\n"
        "32 it failed. See pinfs(1).");

    Action action;
    add_mount(app, action);
    add_upgrade(app, action);
    add_unmount(app, action);
    add_info(app, action);
    add_df(app, action);
    add_dax(app, action);
    add_extents(app, action);
    add_tune(app, action);
    add_pins(app, action);
    add_holds(app, action);
    add_stats(app, action);
    add_report(app, action);
    add_scrub(app, action);
    add_lease(app, action, program);
    add_pin(app, action, program);
    add_sandbox(app, action, program);
    const int usage = runner ? kRunnerFailed : kUsage;
    const auto is_help = [](const std::string& word) {
        return word == "-h" || word == "--help";
    };
    if (runner && program.empty() && std::ranges::none_of(words, is_help))
        return complain("pinfs " + words.front(), usage,
                        "there is no command to run: write it behind --");
    try {
        std::ranges::reverse(words);  // as CLI11 wants them
        app.parse(std::move(words));
    } catch (const CLI::ParseError& stop) {
        if (stop.get_exit_code() == 0) return app.exit(stop);  // --help, --version
        return complain("pinfs", usage, std::string{stop.what()} + " (see pinfs --help)");
    }
    const int status = action();
    std::cout.flush();
    return std::cout ? status : complain("pinfs", kFailure, "the output cannot be written");
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(count, words);
    } catch (const std::exception& failure) {
        return pinfs::cmd::complain("pinfs", pinfs::cmd::kSystem, failure.what());
    }
}
