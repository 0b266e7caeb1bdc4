// SPDX-License-Identifier: Apache-2.0
//
// Reading directories. The cookies are the volume's, so a listing survives whatever comes and goes
// between two requests, and a remount.
//
// Invariant: the volume's sink runs under the directory's lock and calls nothing; what needs a
// lookup (readdirplus) is gathered first.
#include <sys/stat.h>

#include <string>
#include <vector>

#include "fs/fuse/edge.h"
#include "fs/fuse/virtual_nodes.h"

namespace pinfs::fuse {
namespace {

/// An answer under construction, kept by each thread from one request to the next.
struct Listing {
    struct Item {
        std::size_t name_begin;  ///< in `names`, NUL-terminated
        Ino ino;
        std::uint32_t mode;
        std::uint64_t cookie;
    };
    std::string answer;
    std::string names;
    std::vector<Item> items;
    std::string name;  ///< of the item at hand, NUL-terminated
    std::vector<Ino> referenced;

    void clear() {
        answer.clear();
        names.clear();
        items.clear();
        referenced.clear();
    }
};

Listing& listing_of_this_thread() {
    thread_local Listing listing;
    listing.clear();
    return listing;
}

void on_opendir(fuse_req_t req, fuse_ino_t, fuse_file_info* file) noexcept {
    file->fh = new_handle(edge_of(req), file->flags);
    fuse_reply_open(req, file);
}

void on_releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info*) noexcept { fuse_reply_err(req, 0); }

void on_readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                fuse_file_info*) noexcept {
    Listing* listing = nullptr;
    const auto result = guarded([&] {
        listing = &listing_of_this_thread();
        std::string& answer = listing->answer;
        return volume_of(req).read_directory(
            Ino{ino}, static_cast<std::uint64_t>(offset), [&](const DirectoryItem& item) {
                if (is_virtual_name(ino, item.name)) return true;
                listing->name = item.name;
                struct stat st {};
                st.st_ino = item.ino.value;
                st.st_mode = item.mode;
                const char* name = listing->name.c_str();
                const std::size_t bytes = fuse_add_direntry(req, nullptr, 0, name, nullptr, 0);
                if (answer.size() + bytes > size) return false;
                const std::size_t at = answer.size();
                answer.resize(at + bytes);
                fuse_add_direntry(req, answer.data() + at, bytes, name, &st,
                                  static_cast<off_t>(item.cookie));
                return true;
            });
    });
    if (!result) return reply_error(req, result.error(), "readdir", ino);
    fuse_reply_buf(req, listing->answer.data(), listing->answer.size());
}

/// Takes as many items as the answer can hold with their attributes.
Expected<void> gather(fuse_req_t req, Ino ino, std::size_t size, std::uint64_t cookie,
                      Listing& listing) {
    std::size_t bytes = 0;
    return volume_of(req).read_directory(ino, cookie, [&](const DirectoryItem& item) {
        if (is_virtual_name(ino.value, item.name)) return true;
        listing.name = item.name;
        bytes += fuse_add_direntry_plus(req, nullptr, 0, listing.name.c_str(), nullptr, 0);
        if (bytes > size) return false;
        listing.items.push_back({.name_begin = listing.names.size(),
                                 .ino = item.ino,
                                 .mode = item.mode,
                                 .cookie = item.cookie});
        listing.names.append(item.name).push_back('\0');
        return true;
    });
}

void add_item(fuse_req_t req, Ino parent, const Listing::Item& item, Listing& listing) {
    const char* name = listing.names.c_str() + item.name_begin;
    fuse_entry_param param{};  // without an inode: the kernel takes the name and no reference
    param.attr.st_ino = item.ino.value;
    param.attr.st_mode = item.mode;
    const std::string_view text{name};
    if (text != "." && text != "..") {
        const auto entry = volume_of(req).lookup(parent, text);
        if (entry) {
            param = entry_param_of(entry->attributes);
            listing.referenced.push_back(entry->attributes.ino);
        } else if (entry.error().cause == Cause::not_found) {
            return;  // gone since it was gathered
        }
    }
    const std::size_t bytes = fuse_add_direntry_plus(req, nullptr, 0, name, nullptr, 0);
    const std::size_t at = listing.answer.size();
    listing.answer.resize(at + bytes);
    fuse_add_direntry_plus(req, listing.answer.data() + at, bytes, name, &param,
                           static_cast<off_t>(item.cookie));
}

void on_readdirplus(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                    fuse_file_info*) noexcept {
    Volume& volume = volume_of(req);
    Listing* listing = nullptr;
    const auto result = guarded([&]() -> Expected<void> {
        listing = &listing_of_this_thread();
        std::uint64_t cookie = static_cast<std::uint64_t>(offset);
        // An empty answer means the end of the directory, so items that all vanished are no answer.
        do {
            listing->items.clear();
            listing->names.clear();
            TRY(gather(req, Ino{ino}, size, cookie, *listing));
            // Now, so that no reference is lost to a lack of memory.
            listing->answer.reserve(size);
            listing->referenced.reserve(listing->referenced.size() + listing->items.size());
            for (const Listing::Item& item : listing->items) {
                add_item(req, Ino{ino}, item, *listing);
                cookie = item.cookie;
            }
        } while (listing->answer.empty() && !listing->items.empty());
        return {};
    });
    const auto give_back = [&] {
        if (listing == nullptr) return;
        for (const Ino referenced : listing->referenced) volume.forget(referenced, 1);
    };
    if (!result) {
        give_back();
        return reply_error(req, result.error(), "readdirplus", ino);
    }
    if (fuse_reply_buf(req, listing->answer.data(), listing->answer.size()) != 0) give_back();
}

void on_fsyncdir(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) noexcept {
    const auto result = guarded([&] { return volume_of(req).sync(Ino{ino}); });
    reply_done(req, result, "fsyncdir", ino);
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops& operations) {
    operations.opendir = on_opendir;
    operations.releasedir = on_releasedir;
    operations.readdir = on_readdir;
    operations.readdirplus = on_readdirplus;
    operations.fsyncdir = on_fsyncdir;
}

}  // namespace pinfs::fuse
