// SPDX-License-Identifier: Apache-2.0
#include "tests/support/random_operations.h"

#include <array>
#include <stdexcept>

#include "tests/support/operations.h"

namespace pinfs::test {

namespace {

constexpr std::uint32_t kHandles = 4;

/// Whether a full region may refuse it (SPEC 6.8).
bool may_need_space(const Operation& operation) {
    switch (operation.what) {
        case Do::create:
        case Do::make_directory:
        case Do::make_node:
        case Do::make_unnamed:
        case Do::symbolic_link:
        case Do::link:
        case Do::rename:
        case Do::write:
        case Do::append:
        case Do::allocate:
        case Do::zero_range:
        case Do::copy:
        case Do::set_attribute:
        case Do::set_list:
        case Do::change_mode:  // a list follows
        case Do::remove_attribute:
            return true;
        default:
            return false;
    }
}

}  // namespace

RandomOperations::RandomOperations(std::uint64_t seed, const RandomOptions& options)
    : random_{seed}, options_{options} {}

std::string RandomOperations::directory() {
    static constexpr std::array kPlaces{"", "", "/d0", "/d1", "/d0/d2", "/d0/d2/d3"};
    return options_.top + kPlaces[number(kPlaces.size())];
}

std::string RandomOperations::path() {
    const std::uint64_t which = number(options_.names);
    std::string name = "n" + std::to_string(which);
    // The same number always has the same length.
    if (which * 7 % 10 < options_.long_names) name.resize(100 + which * 53 % 150, 'x');
    return directory() + "/" + name;
}

std::string RandomOperations::file() {
    if (open_ != 0 && number(4) == 0) {
        std::uint32_t handle = static_cast<std::uint32_t>(number(kHandles));
        while ((open_ >> handle & 1) == 0) handle = (handle + 1) % kHandles;
        return "#" + std::to_string(handle);
    }
    return path();
}

std::uint64_t RandomOperations::offset() {
    if (options_.far_offsets && number(20) == 0) return random_() % (kFileBytesMax + 10'000);
    const std::uint64_t at = number(options_.offset_bytes_max);
    return number(3) == 0 ? round_down(at, kBlockBytes) : at;
}

Operation RandomOperations::filling() {
    using namespace operations;
    const std::uint64_t seed = random_();
    std::uint64_t length = 1 + number(options_.write_bytes_max);
    if (number(4) == 0) length = round_up(length, kBlockBytes);
    switch (number(17)) {
        case 0:
        case 1:
            return create(path());
        case 2: {
            static constexpr std::array kDirectories{"/d0", "/d1", "/d0/d2", "/d0/d2/d3"};
            if (number(3) == 0) return make_directory(path());
            return make_directory(options_.top + kDirectories[number(kDirectories.size())]);
        }
        case 3:
            return symbolic_link(path(), std::string(1 + number(number(2) == 0 ? 90 : 1500), 't'));
        case 4:
            return link(file(), path());
        case 5:
            return number(2) == 0 ? make_node(path(), S_IFIFO | 0600)
                                  : make_node(path(), S_IFBLK | 0600, number(300), number(70'000));
        case 6: {
            const std::uint64_t bytes = number(12) == 0 ? 65'536 : options_.attribute_bytes_max;
            return set_attribute(path(), "user." + std::to_string(number(5)), number(bytes + 1),
                                 seed, static_cast<SetAttribute>(number(3)));
        }
        case 7:
        case 8:
        case 9:
            return append(file(), length, seed);
        case 10:
            return allocate(file(), offset(), length, number(2) == 0);
        case 11:
            return zero_range(file(), offset(), length, number(2) == 0);
        case 12: {
            const std::string from = file();
            const std::string to = file();
            // Not within one file: the kernel lets no overlapping ranges through.
            return from == to ? allocate(from, 0, length)
                              : copy(from, offset(), to, offset(), length);
        }
        default:
            return write(file(), offset(), length, seed);
    }
}

Operation RandomOperations::removing() {
    using namespace operations;
    switch (number(10)) {
        case 0:
        case 1:
        case 2:
            return unlink(path());
        case 3:
            return remove_directory(number(2) == 0 ? path() : directory() + "/d2");
        case 4:
            return truncate(file(), 0);
        case 5:
            return remove_attribute(path(), "user." + std::to_string(number(5)));
        case 6:
        case 7:
            return punch_hole(file(), offset(), 1 + number(options_.offset_bytes_max));
        default:
            return truncate(file(), offset());
    }
}

Operation RandomOperations::changing() {
    using namespace operations;
    switch (number(14)) {
        case 13:
            return set_list(number(3) == 0 ? path() : directory(), true, number(1u << 16));
        case 12:
            return number(4) == 0 ? remove_attribute(path(), "system.posix_acl_access")
                                  : set_list(path(), false, number(1u << 16));
        case 11: {
            const auto handle = static_cast<std::uint32_t>(number(kHandles));
            return (open_ >> handle & 1) != 0 ? link("#" + std::to_string(handle), path())
                                              : make_unnamed(options_.top + "/d0", handle);
        }
        case 9:
        case 10: {
            const auto handle = static_cast<std::uint32_t>(number(kHandles));
            return (open_ >> handle & 1) != 0 ? release(handle) : open(path(), handle);
        }
        case 0:
            return change_mode(path(), static_cast<std::uint32_t>(number(07777)));
        case 1:
            return change_owner(path(), static_cast<std::uint32_t>(number(5)),
                                static_cast<std::uint32_t>(number(5)));
        case 2:
            return set_times(path(), number(1u << 31), number(1ull << 34));
        case 3:
            return sync(file());
        case 4:
            return finish_pending();
        default: {
            static constexpr std::array<std::uint32_t, 6> kFlags{
                0, 0, 0, kRenameNoReplace, kRenameExchange, kRenameWhiteout};
            return rename(number(8) == 0 ? options_.top + "/d0/d2" : path(), path(),
                          kFlags[number(kFlags.size())]);
        }
    }
}

Operation RandomOperations::next() {
    const std::uint64_t which = number(10 + options_.removals + 6);
    if (which < 10) return filling();
    if (which < 10 + options_.removals) return removing();
    return changing();
}

bool Compared::run(const Operation& operation) {
    const auto done = runner_.run(operation);
    if (!done &&
        (done.error().cause == Cause::no_space || done.error().cause == Cause::name_collisions)) {
        ++refused_;
        if (!may_need_space(operation))
            throw std::runtime_error(operation.text() +
                                     " needs no space, but: " + done.error().message());
        return false;
    }
    Operation as_done = operation;
    const bool writes = operation.what == Do::write || operation.what == Do::append;
    const bool copies = operation.what == Do::copy;
    if ((writes || (copies && runner_.written() > 0)) && done &&
        runner_.written() < operation.length) {
        // A short write: the region is full, or the file as large as it may be.
        as_done.length = runner_.written();
        ++refused_;
    }
    const int expected = model_.apply(as_done);
    if ((done ? 0 : done.error().number()) != expected)
        throw std::runtime_error(operation.text() + ": " +
                                 (done ? "succeeded" : done.error().message()) +
                                 ", should give errno " + std::to_string(expected));
    return done.has_value();
}

void Compared::compare() const {
    const std::string wrong = difference(fs_.snapshot(), model_.snapshot());
    if (!wrong.empty()) throw std::runtime_error("not as the model has it:\n" + wrong);
    for (std::uint32_t handle = 0; handle < kHandles; ++handle) {
        if (!model_.is_open(handle)) continue;
        const Ino ino = must(runner_.find("#" + std::to_string(handle)));
        FileState found = state_of(fs_.volume(), ino);
        const std::string differs = difference(found, model_.opened(handle));
        if (!differs.empty())
            throw std::runtime_error("open file " + std::to_string(handle) + ":" + differs);
    }
}

void Compared::remount() {
    compare();
    must(fs_->finish_pending());  // times
    const Snapshot before = fs_.snapshot();
    run(operations::unmount());
    fs_.check_clean();
    run(operations::mount());
    if (const std::string wrong = difference(fs_.snapshot(), before); !wrong.empty())
        throw std::runtime_error("not as before the unmount:\n" + wrong);
}

}  // namespace pinfs::test
