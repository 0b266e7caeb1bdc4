// SPDX-License-Identifier: Apache-2.0
#include "tests/support/recording.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace pinfs::test {

namespace {

constexpr std::size_t kWordBytes8 = 8;

/// What this program judged, printed when it ends.
struct Judged {
    std::atomic<std::size_t> workloads = 0;
    std::atomic<std::size_t> images = 0;
    std::atomic<std::size_t> used = 0;
    std::atomic<std::size_t> in_recovery = 0;
    double seconds = 0;
    ~Judged() {
        if (workloads == 0) return;
        const std::size_t all = images + in_recovery;
        std::printf(
            "judged: %zu workloads, %zu images (%zu of them used, %zu more from crashes in "
            "recovery), %.1f s, %.0f images per second\n",
            workloads.load(), all, used.load(), in_recovery.load(), seconds,
            static_cast<double>(all) / std::max(seconds, 1e-3));
    }
} judged;

/// Counts the time until it goes; not while others count.
class Timer {
public:
    ~Timer() {
        judged.seconds +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    }

private:
    const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

Bytes padded(const FileState& file, std::uint64_t block) {
    const std::uint64_t begin = block * kBlockBytes;
    const std::uint64_t size = file.size.value_or(0);
    const auto there = file.blocks.find(block);
    Bytes bytes = there == file.blocks.end() ? Bytes{} : there->second;
    bytes.resize(begin >= size ? 0 : std::min(kBlockBytes, size - begin));
    return bytes;
}

/// Whether each aligned word of `found` is that of `old_bytes` or of `new_bytes`.
bool is_torn_from(const Bytes& found, const Bytes& old_bytes, const Bytes& new_bytes) {
    for (std::size_t at = 0; at < found.size(); at += kWordBytes8) {
        const std::size_t bytes = std::min(kWordBytes8, found.size() - at);
        const auto same = [&](const Bytes& other) {
            return other.size() >= at + bytes &&
                   std::memcmp(found.data() + at, other.data() + at, bytes) == 0;
        };
        if (!same(old_bytes) && !same(new_bytes)) return false;
    }
    return true;
}

/// Empty if `found` is `before` with some words of `after` in blocks that may be torn, and, where
/// the operation goes block by block, some whole blocks of `after`.
std::string judge_torn(const Snapshot& found, const Snapshot& before, const Snapshot& after,
                       const Timeline::Partly& partly) {
    Snapshot rest = found;
    for (auto& [path, file] : rest) {
        const auto old_file = before.find(path);
        const auto new_file = after.find(path);
        if (old_file == before.end() || new_file == after.end()) continue;
        if (file.size != old_file->second.size) continue;
        std::set<std::uint64_t> written;
        for (const FileState* of :
             std::initializer_list<const FileState*>{&file, &old_file->second, &new_file->second})
            for (const auto& [block, bytes] : of->blocks) written.insert(block);
        for (const std::uint64_t block : written)
            if (partly.whole.contains(block)
                    ? partly.by_block && padded(file, block) == padded(new_file->second, block)
                    : is_torn_from(padded(file, block), padded(old_file->second, block),
                                   padded(new_file->second, block))) {
                // Allowed to be either: taken as old.
                file.blocks.erase(block);
                const auto old_block = old_file->second.blocks.find(block);
                if (old_block != old_file->second.blocks.end()) file.blocks.insert(*old_block);
            }
    }
    return difference(rest, before);
}

Snapshot without_times(Snapshot snapshot) {
    for (auto& [path, file] : snapshot) {
        file.mtime.reset();
        file.ctime.reset();
    }
    return snapshot;
}

bool is_open_file(const FileState& file) { return S_ISREG(file.mode); }

}  // namespace

std::optional<Timeline::Partly> Timeline::partly(const ModelFiles& model,
                                                 const Operation& operation) {
    switch (operation.what) {
        case Do::write:
        case Do::append:
        case Do::copy:
            return Partly{.whole = model.whole_blocks(operation)};
        case Do::punch_hole:
        case Do::zero_range:
            return Partly{.whole = model.whole_blocks(operation), .by_block = true};
        default:
            return std::nullopt;
    }
}

std::string Timeline::judge(const Snapshot& found, std::uint64_t completed) const {
    const Snapshot& before = states_.at(completed);
    const std::string old_differs = difference(found, before);
    if (old_differs.empty()) return {};
    if (completed + 1 == states_.size())
        return "not the state after everything returned:\n" + old_differs;
    const Snapshot& after = states_[completed + 1];
    const std::string new_differs = difference(found, after);
    if (new_differs.empty()) return {};
    if (const auto& partly = partly_[completed]; partly) {
        std::string differs = judge_torn(found, before, after, *partly);
        // A step of it changed the times.
        if (!differs.empty() && partly->by_block)
            differs = judge_torn(found, without_times(before), after, *partly);
        if (differs.empty()) return {};
        return "a write tore more than words of written blocks:\n" + differs +
               "compared with its end:\n" + new_differs;
    }
    return "neither the state before:\n" + old_differs + "nor the state after:\n" + new_differs;
}

Records records_of(Volume& volume) {
    Records records;
    for (const PinnedItem& item : must(volume.pinned())) {
        if (item.kind == PinnedItem::Kind::lease || item.kind == PinnedItem::Kind::orphan) continue;
        records.insert({static_cast<std::uint64_t>(item.kind), item.id, item.ino.value, item.begin,
                        item.end, item.region_offset});
    }
    return records;
}

void Recording::use_up(Mounted& fs) const {
    const Snapshot seen = fs.snapshot();
    // Bytes beyond the end, whatever they were, never become readable.
    for (const auto& [path, file] : seen) {
        if (!is_open_file(file) || file.first_name != path || *file.size > (1u << 20)) continue;
        const Ino ino = fs.ino(path);
        constexpr std::size_t kMore = 2 * kBlockBytes + 100;
        fs.truncate(ino, *file.size + kMore);
        if (fs.read(ino, *file.size, kMore) != Bytes(kMore))
            throw std::runtime_error(path + " extended does not read as zeros");
        fs.truncate(ino, *file.size);
    }
    const std::string name = "/of-the-user";
    const Ino directory = fs.make_directory(name);
    const Ino file = fs.make_file(name + "/new", 5000, 99);
    must(fs->rename(directory, "new", kRootIno, "moved-by-user", 0));
    must(fs->open(file));
    must(fs->write(file, 0, pattern(0, 100, 98), true));
    fs->release(file);
    const Bytes content = fs.read(file, 0, 10'000);
    const Bytes expected = pattern(0, 5000, 99);
    const Bytes appended = pattern(0, 100, 98);
    if (content.size() != 5100 || !std::equal(expected.begin(), expected.end(), content.begin()) ||
        !std::equal(appended.begin(), appended.end(), content.begin() + 5000))
        throw std::runtime_error("what was written after the mount does not read back");
    fs.remove_all();
    // What was held ends by proof, which may take a few looks.
    constexpr int kLooksMax = 1000;
    for (int looks = 0; fs->statistics().blocks_free != free_when_empty_ && looks < kLooksMax;
         ++looks) {
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
        must(fs->finish_pending());
    }
    const Statistics now = fs->statistics();
    if (now.blocks_free != free_when_empty_ || now.inodes != 1)
        throw std::runtime_error("emptied, it has " + std::to_string(now.blocks_free) +
                                 " free blocks and " + std::to_string(now.inodes) +
                                 " inodes, and had " + std::to_string(free_when_empty_) +
                                 " and 1 when it was made");
    fs.unmount();
    fs.check_clean();
}

std::string Recording::judge(CrashImage& image, Depth depth) {
    try {
        const CheckReport report = must(check(image.region));
        if (!report.clean()) return "the judge says:\n" + report.text();
        if (depth == Depth::recovery) return judge_recovery(image);
        const bool same_boot = image.index % 2 == 0;
        Mounted fs{image.region, same_boot};
        Snapshot found = fs.snapshot();
        if (std::string wrong = judge_state(found, image.completed); !wrong.empty()) return wrong;
        if (same_boot)
            if (std::string wrong = judge_records(records_of(fs.volume()), image.completed);
                !wrong.empty())
                return wrong;
        if (depth == Depth::state) return {};
        must(fs->finish_pending());
        if (same_boot)  // a map or pin of a dead process ends: the file counts as written
            for (auto& [path, file] : found) {
                file.mtime.reset();
                file.ctime.reset();
            }
        if (const std::string wrong = difference(fs.snapshot(), found); !wrong.empty())
            return "finishing what was pending changed what can be seen:\n" + wrong;
        fs.check_clean();
        use_up(fs);
        return {};
    } catch (const std::exception& error) {
        return error.what();
    }
}

std::string Recording::judge_recovery(CrashImage& image) {
    CrashRegion again{image};
    Snapshot recovered;
    again.record([&] {
        Mounted fs{again.region()};
        recovered = fs.snapshot();
        must(fs->finish_pending());
        fs.unmount();
    });
    if (std::string wrong = judge_state(recovered, image.completed); !wrong.empty()) return wrong;
    std::string wrong;
    const auto totals =
        again.for_each_image({.per_fence_max = 6, .seed = image.index + 1}, [&](CrashImage& inner) {
            if (!wrong.empty()) return;
            const CheckReport report = must(check(inner.region));
            if (!report.clean()) wrong = "the judge says:\n" + report.text();
            if (!wrong.empty()) return;
            Mounted fs{inner.region};
            wrong = difference(fs.snapshot(), recovered);
            if (wrong.empty() && inner.index % 4 == 0) use_up(fs);
            if (!wrong.empty()) wrong = "a crash in recovery, " + inner.label + ":\n" + wrong;
        });
    judged.in_recovery += totals.images;
    return wrong;
}

RecordedWorkload::RecordedWorkload(const Workload& workload) : Recording{workload} {
    Mounted fs{crash().region(), crash().memory(), workload.fs};
    set_free_when_empty(fs->statistics().blocks_free);
    Runner runner{fs};
    ModelFiles model;
    std::set<std::uint64_t> lazy;  // inodes with times in memory alone
    bool owner_lost = false;       // files that it had mapped count as written once that is over
    bool any_reached = false;      // then sync counts as writing too
    Snapshot last;
    // Runs an operation; says how it may be found half done.
    const auto run = [&](const Operation& operation) {
        const auto partly = Timeline::partly(model, operation);
        const bool writes = operation.what == Do::write || operation.what == Do::copy;
        const auto ino =
            partly || operation.what == Do::sync
                ? runner.find(operation.what == Do::copy ? operation.other : operation.path)
                : Expected<Ino>{};
        if (writes && partly && ino) {
            const auto attributes = fs->attributes(*ino);
            if (partly->whole.empty() && attributes &&
                model.offset_of(operation) + operation.length <= attributes->size_bytes)
                lazy.insert(ino->value);
        }
        const bool reaches = operation.what == Do::map || operation.what == Do::pin;
        any_reached = any_reached || reaches;
        if (operation.what == Do::drop) lazy.insert(runner.reached(operation.number).value);
        owner_lost = owner_lost || operation.what == Do::lose_owner;
        if (const auto file = runner.find(operation.path); reaches && file)
            lazy.insert(file->value);
        if (operation.what == Do::release)
            if (const auto file = runner.find("#" + std::to_string(operation.number)); file)
                lazy.erase(file->value);
        const int expected = model.apply(operation);
        const auto done = runner.run(operation);
        if ((done ? 0 : done.error().number()) != expected)
            throw std::runtime_error(name() + ": " + operation.text() + ": " +
                                     (done ? "succeeded" : done.error().message()) +
                                     ", should give errno " + std::to_string(expected));
        if (ino && operation.what == Do::sync) lazy.erase(ino->value);
        if (operation.what == Do::finish_pending || operation.what == Do::unmount) lazy.clear();
        return partly;
    };
    Snapshot raw;  // with the times that are in memory alone
    const auto state = [&](bool nothing_changes) {
        if (!fs.is_mounted()) return last;
        Snapshot seen = fs.snapshot();
        if (const std::string wrong = difference(seen, raw); nothing_changes && !wrong.empty())
            throw std::runtime_error(name() + ", but nothing was to change:\n" + wrong);
        raw = seen;
        if (const std::string wrong = difference(seen, model.snapshot()); !wrong.empty())
            throw std::runtime_error(name() + ", not as the model has it:\n" + wrong);
        for (auto& [path, file] : seen)
            if (owner_lost || lazy.contains(*file.ino)) {
                file.mtime.reset();
                file.ctime.reset();
            }
        return seen;
    };
    for (const Operation& operation : workload.before) (void)run(operation);
    const auto note_records = [&] {
        if (fs.is_mounted())
            records_.push_back(records_of(fs.volume()));
        else
            records_.push_back(records_.empty() ? Records{} : records_.back());
    };
    note_records();
    if (fs.is_mounted()) {
        timeline_.start(last = state(false));
    } else {
        // What is there is what a mount will find; the workload's own mount is the recorded one.
        last = model.snapshot();
        timeline_.start(last);
    }

    crash().start_recording();
    std::uint64_t completed = 0;
    for (const Operation& operation : workload.recorded) {
        const auto partly = run(operation);
        crash().mark(++completed);
        last =
            state((operation.what == Do::sync && !any_reached) || operation.what == Do::release ||
                  (operation.what == Do::finish_pending && !owner_lost));
        timeline_.add(last, partly);
        note_records();
    }
    crash().stop_recording();
}

/// An operation may make and end records one by one; those that it leaves alone are there.
std::string RecordedWorkload::judge_records(const Records& found, std::uint64_t completed) const {
    const Records& before = records_.at(completed);
    const Records& after = completed + 1 == records_.size() ? before : records_[completed + 1];
    const auto text = [](const Record& record) {
        std::string numbers;
        for (const std::uint64_t number : record) numbers += " " + std::to_string(number);
        return numbers;
    };
    for (const Record& record : before)
        if (after.contains(record) && !found.contains(record))
            return "not on record any more:" + text(record);
    for (const Record& record : found)
        if (!before.contains(record) && !after.contains(record))
            return "on record, though nothing made it:" + text(record);
    return {};
}

RecordedThreads::RecordedThreads(const Workload& common, const std::vector<Operations>& threads)
    : Recording{common}, timelines_(threads.size()) {
    Mounted fs{crash().region(), crash().memory(), common.fs};
    set_free_when_empty(fs->statistics().blocks_free);
    Runner setup{fs};
    std::vector<ModelFiles> models(threads.size());
    for (const Operation& operation : common.before) {
        must(setup.run(operation));
        for (ModelFiles& model : models)
            if (model.apply(operation) != 0) throw std::runtime_error(operation.text());
    }
    const auto part_of = [](const Snapshot& all, std::size_t thread) {
        Snapshot part;
        const std::string top = "/" + std::to_string(thread);
        for (const auto& [path, file] : all)
            if (path == top || path.starts_with(top + "/")) part.insert({path, file});
        return part;
    };

    std::mutex mutex;  // the mark tells all threads' progress at once
    std::uint64_t completed = 0;
    std::atomic<bool> failed{false};
    crash().start_recording();
    crash().pause_at_fences(std::chrono::microseconds{50});
    // Operations begin together, so that their changes are under way at the same time.
    std::barrier together{static_cast<std::ptrdiff_t>(threads.size())};
    std::vector<std::thread> running;
    for (std::size_t thread = 0; thread < threads.size(); ++thread) {
        timelines_[thread].start(part_of(models[thread].snapshot(), thread));
        running.emplace_back([&, thread] {
            Runner runner{fs};
            for (const Operation& operation : threads[thread]) {
                const auto partly = Timeline::partly(models[thread], operation);
                const int expected = models[thread].apply(operation);
                together.arrive_and_wait();
                if (expected != 0 || !runner.run(operation)) {
                    failed = true;
                    break;
                }
                const std::scoped_lock lock{mutex};
                completed += std::uint64_t{1} << (16 * thread);
                crash().mark(completed);
                timelines_[thread].add(part_of(models[thread].snapshot(), thread), partly);
            }
            together.arrive_and_drop();
        });
    }
    for (std::thread& thread : running) thread.join();
    crash().pause_at_fences(std::chrono::microseconds{0});
    crash().stop_recording();
    if (failed) throw std::runtime_error(name() + ": an operation failed");
}

std::string RecordedThreads::judge_state(const Snapshot& found, std::uint64_t completed) const {
    for (std::size_t thread = 0; thread < timelines_.size(); ++thread) {
        Snapshot part;
        const std::string top = "/" + std::to_string(thread);
        for (const auto& [path, file] : found)
            if (path == top || path.starts_with(top + "/")) part.insert({path, file});
        const std::string wrong =
            timelines_[thread].judge(part, completed >> (16 * thread) & 0xffff);
        if (!wrong.empty()) return "thread " + std::to_string(thread) + ": " + wrong;
    }
    return {};
}

Effort effort() {
    const char* const given = std::getenv("PINFS_CRASH_EFFORT");
    const std::string which = given != nullptr ? given : "default";
    if (which == "nightly")
        return {.per_fence_max = 512,
                .use_every = 4,
                .recovery_every = 50,
                .pairs = SIZE_MAX,
                .triples = 10'000,
                .scale = 20};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return {.per_fence_max = 20,
            .use_every = 16,
            .recovery_every = 400,
            .pairs = 200,
            .triples = 50,
            .scale = 0.2};
#endif
    if (which == "quick")
        return {.per_fence_max = 40,
                .use_every = 12,
                .recovery_every = 300,
                .pairs = 300,
                .triples = 60,
                .scale = 0.5};
    return {.per_fence_max = 64,
            .use_every = 10,
            .recovery_every = 200,
            .pairs = SIZE_MAX,
            .triples = 500,
            .scale = 1};
}

namespace {

void judge_untimed(Recording& recording, const Effort& effort, std::uint64_t seed) {
    ++judged.workloads;
    recording.crash().for_each_image(
        {.per_fence_max = std::min(effort.per_fence_max, recording.per_fence_max()),
         .from_completed = recording.judged_from(),
         .seed = seed,
         .recover =
             [](pmem::Region& region) {
                 (void)Volume::mount(region, mount_options());
             }},
        [&](CrashImage& image) {
            Depth depth = Depth::state;
            if (image.index % effort.use_every == 0) depth = Depth::use;
            if (image.index % effort.recovery_every == effort.recovery_every / 2)
                depth = Depth::recovery;
            ++judged.images;
            if (depth == Depth::use) ++judged.used;
            if (const std::string wrong = recording.judge(image, depth); !wrong.empty())
                throw std::runtime_error(recording.name() + ", " + image.label + ", " +
                                         std::to_string(image.completed) +
                                         " operations completed:\n" + wrong);
        });
}

}  // namespace

void judge_images(Recording& recording, const Effort& effort, std::uint64_t seed) {
    const Timer timer;
    judge_untimed(recording, effort, seed);
}

std::vector<std::string> judge_workloads(const std::vector<Workload>& workloads,
                                         const Effort& effort, std::uint64_t seed) {
    const Timer timer;
    std::vector<std::string> failures;
    std::mutex mutex;
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        for (std::size_t i = next++; i < workloads.size(); i = next++) {
            try {
                RecordedWorkload recording{workloads[i]};
                judge_untimed(recording, effort, seed);
            } catch (const std::exception& error) {
                const std::scoped_lock lock{mutex};
                failures.push_back(workloads[i].name + ": " + error.what());
            }
        }
    };
    std::vector<std::thread> others;
    for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    return failures;
}

}  // namespace pinfs::test
