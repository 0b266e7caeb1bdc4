// SPDX-License-Identifier: Apache-2.0
#include "tests/support/exercise.h"

#include <sys/stat.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/support/mounted.h"

namespace pinfs::test {
namespace {

constexpr Caller kSomebody{.uid = 1000, .gid = 100};

}  // namespace

void exercise(Volume& volume, std::size_t names_max) {
    std::vector<std::pair<Ino, std::string>> names;
    std::vector<Ino> todo{kRootIno};
    for (std::size_t i = 0; i < todo.size() && names.size() < names_max; ++i)
        (void)volume.read_directory(todo[i], 0, [&](const DirectoryItem& item) {
            if (item.name == "." || item.name == "..") return true;
            names.emplace_back(todo[i], item.name);
            if (S_ISDIR(item.mode)) todo.push_back(item.ino);
            return names.size() < names_max;
        });
    Bytes buffer(70000);
    for (const auto& [parent, name] : names) {
        const auto entry = volume.lookup(parent, name);
        if (!entry) continue;
        const Ino ino = entry->attributes.ino;
        (void)volume.read_link(ino);
        (void)volume.attribute_names(ino);
        (void)volume.attribute(ino, "user.large");
        (void)volume.extents(ino, 0, kFileBytesMax);
        if (volume.open(ino)) {
            (void)volume.read(ino, 0, buffer);
            (void)volume.write(ino, 4000, std::span{buffer}.first(300));
            (void)volume.write(ino, entry->attributes.size_bytes, std::span{buffer}.first(300));
            volume.release(ino);
        }
        (void)volume.set_attribute(ino, "user.other", std::span{buffer}.first(100),
                                   SetAttribute::create_or_replace);
        AttributeChange change;
        change.size_bytes = 3000;
        (void)volume.change_attributes(ino, change);
        (void)volume.link(ino, kRootIno, "link-" + name);
        (void)volume.rename(parent, name, kRootIno, "new-" + name, 0);
        (void)volume.unlink(kRootIno, "new-" + name);
        (void)volume.unlink(parent, name);
        (void)volume.remove_directory(parent, name);
        volume.forget(ino, 1);
        (void)volume.make(kRootIno, "made-" + name, {.mode = S_IFREG | 0644}, kSomebody);
    }
    (void)volume.finish_pending();
    (void)volume.unmount();
}

}  // namespace pinfs::test
