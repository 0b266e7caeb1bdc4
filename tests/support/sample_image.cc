// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sample_image.h"

#include <sys/stat.h>

#include <string>

namespace pinfs::test {

using media::kBlockBytes;

Sample::Sample(const HandShape& shape) : image(shape) {
    const std::uint64_t root = HandImage::kRoot;
    directory = image.add(root, "directory", S_IFDIR | 0755);
    small_directory = image.add(root, "small", S_IFDIR | 01777);
    subdirectory = image.add(small_directory, "sub", S_IFDIR | 0700);

    file = image.add(root, "file", S_IFREG | 0644);
    image.inode(file).size = 3 * kBlockBytes + 17;
    image.inode(file).flags = media::kInodeDax | media::kInodeKeepBeyondEnd;
    image.extend(file, 0, 2);
    image.extend(file, 3, 5, true);

    tree_file = image.add(root, "tree file", S_IFREG | 04711);
    image.inode(tree_file).size = std::uint64_t{1} << 44;
    for (std::uint64_t i = 0; i < 120; ++i)
        image.extend(tree_file, i == 119 ? (std::uint64_t{1} << 32) - 1 : 10 + i * 3, 1,
                     i % 5 == 0);

    short_link = image.add(root, "short link", S_IFLNK | 0777);
    image.set_target(short_link, "small/sub");
    long_link = image.add(root, "long link", S_IFLNK | 0777);
    image.set_target(long_link, std::string(4000, 'x'));
    device = image.add(small_directory, "device", S_IFCHR | 0600);
    image.inode(device).device_major = 1;
    image.inode(device).device_minor = 1u << 30;
    pipe = image.add(small_directory, "pipe", S_IFIFO | 0600);
    image.add(root, "socket", S_IFSOCK | 0600);
    image.add(root, "block device", S_IFBLK | 0600);

    attributed = image.add(root, "attributed", S_IFREG | 0600);
    image.set_attribute(attributed, "user.one", std::string(5000, 'v'));
    image.set_attribute(attributed, "security.two", "");
    linked = image.add(root, std::string(255, 'n'), S_IFREG | 0644);
    image.link(small_directory, "\xc3\xa4\n\\", linked);

    orphan = image.add_unnamed(S_IFREG | 0600);
    image.inode(orphan).size = 100;
    image.extend(orphan, 0, 3);
    orphan_directory = image.add_unnamed(S_IFDIR | 0700);
    image.inode(orphan_directory).parent = root;
    cut = image.add(root, "cut", S_IFREG | 0600);
    image.inode(cut).size = kBlockBytes;
    image.inode(cut).flags = media::kInodeCutting;
    image.inode(cut).cut_begin = 1;
    image.extend(cut, 0, 1);
    image.extend(cut, 7, 9);

    for (int i = 0; i < 150; ++i)
        image.add(directory, "entry " + std::to_string(i), S_IFREG | 0644);

    map_record = 1;
    image.add_record(media::RecordKind::map, file, 0, 2);
    pin_record = 2;
    image.add_record(media::RecordKind::pin, orphan, 0, 3);
    hold_record = 3;
    image.add_record(media::RecordKind::hold, file, 40, 6);
    media::FinishedRequest& request = image.finished(3);
    request.session = 9;
    request.request = 4711;
    request.ino = file;
    request.generation = image.inode(file).generation;
    request.error_number = 2;
    image.write();
}

}  // namespace pinfs::test
