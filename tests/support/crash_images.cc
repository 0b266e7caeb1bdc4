// SPDX-License-Identifier: Apache-2.0
#include "tests/support/crash_images.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <numeric>
#include <random>
#include <unordered_set>

namespace pinfs::test {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

/// A piece that is in flight.
struct Flying {
    const StoredPiece* piece = nullptr;
    std::size_t store = 0;         // rises in program order, over all threads
    std::uint64_t flushed_by = 0;  // bit t: thread t flushed it since it was made
};

/// A line of the image: its first `whole` pieces, and `words` of the next.
struct LineState {
    std::size_t whole = 0;
    std::uint8_t words = 0;
    auto operator<=>(const LineState&) const = default;
};

struct Line {
    std::uint64_t number = 0;
    std::vector<Flying> pieces;

    [[nodiscard]] LineState all() const { return {pieces.size(), 0}; }
    /// Number of states: none of it, and for each piece every subset of its words but the empty
    /// one.
    [[nodiscard]] std::size_t states() const {
        std::size_t count = 1;
        for (const Flying& flying : pieces)
            count += (std::size_t{1} << std::popcount(flying.piece->words)) - 1;
        return count;
    }
    /// The `index`-th of them.
    [[nodiscard]] LineState state(std::size_t index) const {
        for (std::size_t whole = 0; whole < pieces.size(); ++whole) {
            const std::uint8_t words = pieces[whole].piece->words;
            const std::size_t subsets = std::size_t{1} << std::popcount(words);
            if (index == 0) return {whole, 0};
            if (index < subsets - 1) return {whole, spread(index, words)};
            index -= subsets - 1;
        }
        return all();
    }

    /// The low bits of `index`, at the places where `mask` has ones.
    static std::uint8_t spread(std::size_t index, std::uint8_t mask) {
        unsigned result = 0;
        for (unsigned rest = mask; rest != 0; rest &= rest - 1, index >>= 1)
            if ((index & 1) != 0) result |= rest & -rest;
        return static_cast<std::uint8_t>(result);
    }
};

std::uint64_t mix(std::uint64_t value) {
    value ^= value >> 31;
    value *= 0x7fb5d329728ea185;
    value ^= value >> 27;
    value *= 0x81dadef4bc2dd44d;
    return value ^ value >> 33;
}

/// The memory and a sum over its lines that tells contents apart.
class Scratch {
public:
    explicit Scratch(std::span<std::byte> memory) : memory_(memory) {}

    [[nodiscard]] std::uint64_t sum() const { return sum_; }
    [[nodiscard]] std::byte* line(std::uint64_t number) const {
        return memory_.data() + number * kLineBytes;
    }
    /// Brings a line, as durable, to `state`.
    void apply(const CrashLog& log, const Line& of, LineState state) {
        sum_ -= sum_of(of.number);
        for (std::size_t i = 0; i < state.whole; ++i) copy(log, *of.pieces[i].piece, 0xff);
        if (state.words != 0) copy(log, *of.pieces[state.whole].piece, state.words);
        sum_ += sum_of(of.number);
    }
    /// Puts a line back.
    void restore(std::uint64_t number, const std::byte* old) {
        sum_ -= sum_of(number);
        std::memcpy(line(number), old, kLineBytes);
        sum_ += sum_of(number);
    }

private:
    void copy(const CrashLog& log, const StoredPiece& piece, std::uint8_t words) {
        std::byte* const to = line(piece.line);
        const std::byte* const from = log.data.data() + piece.data;
        for (unsigned word = 0; word < kLineBytes / kWordBytes; ++word) {
            if ((words >> word & 1) == 0) continue;
            const unsigned begin = std::max<unsigned>(piece.begin, word * kWordBytes);
            const unsigned end = std::min<unsigned>(piece.end, (word + 1) * kWordBytes);
            if (begin < end) std::memcpy(to + begin, from + (begin - piece.begin), end - begin);
        }
    }
    [[nodiscard]] std::uint64_t sum_of(std::uint64_t number) const {
        std::uint64_t words[kLineBytes / kWordBytes];
        std::memcpy(words, line(number), sizeof(words));
        std::uint64_t sum = mix(number + 0x9e3779b97f4a7c15);
        for (const std::uint64_t word : words) sum = mix(sum ^ word);
        return sum;
    }

    std::span<std::byte> memory_;
    std::uint64_t sum_ = 0;
};

class UndoObserver : public pmem::Observer {
public:
    explicit UndoObserver(UndoLog& undo) : undo_(undo) {}
    bool before_load(std::uint64_t offset, std::uint64_t bytes) override {
        if (lines_read_ != nullptr)
            for (std::uint64_t line = offset / kLineBytes; line * kLineBytes < offset + bytes;
                 ++line)
                lines_read_->insert(line);
        return true;
    }
    bool before_store(std::uint64_t offset, std::uint64_t bytes) override {
        undo_.touch(offset, bytes);
        return true;
    }
    void stored(std::uint64_t, std::uint64_t) override {}
    void flushed(std::uint64_t, std::uint64_t, const std::source_location&) override {}
    void fenced(const std::source_location&) override {}

    /// Notes in `lines` what is read from now on; null: nothing.
    void note_lines_read(std::unordered_set<std::uint64_t>* lines) { lines_read_ = lines; }

private:
    UndoLog& undo_;
    std::unordered_set<std::uint64_t>* lines_read_ = nullptr;
};

class Model {
public:
    Model(const CrashLog& log, std::span<std::byte> memory, const pmem::Capabilities& capabilities,
          const ImageOptions& options, const ImageVisitor& visit)
        : log_(log),
          memory_(memory),
          options_(options),
          visit_(visit),
          scratch_(memory),
          undo_(memory),
          observer_(undo_),
          region_(memory, capabilities, &observer_),
          random_(options.seed) {}

    ImageTotals run() {
        for (const Event& event : log_.events) {
            switch (event.kind) {
                case Event::Kind::store:
                    store(event);
                    break;
                case Event::Kind::flush:
                    flush(event);
                    break;
                case Event::Kind::fence:
                    if (!is_without(event)) {
                        crash("before fence " + std::to_string(fences_) + " at " +
                              log_.sites[event.site].text());
                        fence(event.thread);
                    }
                    ++fences_;
                    break;
                case Event::Kind::mark:
                    completed_ = event.first;
                    break;
            }
        }
        crash("at the end");
        return totals_;
    }

private:
    [[nodiscard]] bool is_without(const Event& event) const {
        return options_.without && log_.sites[event.site] == *options_.without;
    }

    static std::uint64_t bit_of(std::uint32_t thread) {
        assert(thread < 64);
        return std::uint64_t{1} << thread;
    }

    void store(const Event& event) {
        for (std::uint64_t i = event.first; i < event.first + event.count; ++i) {
            const StoredPiece& piece = log_.pieces[i];
            lines_[piece.line].push_back({&piece, stores_, 0});
        }
        ++stores_;
    }

    void flush(const Event& event) {
        if (is_without(event)) return;
        for (std::uint64_t number = event.first; number < event.first + event.count; ++number) {
            const auto line = lines_.find(number);
            if (line == lines_.end()) continue;
            for (Flying& flying : line->second) flying.flushed_by |= bit_of(event.thread);
            flushed_[event.thread].push_back(number);
        }
    }

    /// What `thread` flushed becomes durable. In each line these are the oldest pieces.
    void fence(std::uint32_t thread) {
        for (const std::uint64_t number : flushed_[thread]) {
            const auto entry = lines_.find(number);
            if (entry == lines_.end()) continue;
            Line line{number, std::move(entry->second)};
            std::size_t durable = 0;
            while (durable < line.pieces.size() &&
                   (line.pieces[durable].flushed_by & bit_of(thread)) != 0)
                ++durable;
            scratch_.apply(log_, line, {durable, 0});
            line.pieces.erase(line.pieces.begin(),
                              line.pieces.begin() + static_cast<std::ptrdiff_t>(durable));
            if (line.pieces.empty())
                lines_.erase(entry);
            else
                entry->second = std::move(line.pieces);
        }
        flushed_[thread].clear();
    }

    /// Shows what a crash here may leave.
    void crash(const std::string& where) {
        if (completed_ < options_.from_completed) return;
        ++totals_.crash_points;
        where_ = where;
        shown_here_ = 0;
        in_flight_.clear();
        for (const auto& [number, pieces] : lines_) in_flight_.push_back({number, pieces});
        std::ranges::sort(in_flight_, {}, &Line::number);

        std::size_t possible = 1;
        for (const Line& line : in_flight_) {
            possible *= line.states();
            if (possible > options_.per_fence_max) break;
        }
        if (possible <= options_.per_fence_max) {
            ++totals_.enumerated;
            enumerate();
        } else {
            sample();
        }
    }

    [[nodiscard]] std::vector<LineState> nothing() const {
        return std::vector<LineState>(in_flight_.size());
    }
    [[nodiscard]] std::vector<LineState> everything() const {
        std::vector<LineState> states;
        for (const Line& line : in_flight_) states.push_back(line.all());
        return states;
    }

    void enumerate() {
        std::vector<std::size_t> digits(in_flight_.size());
        std::vector<LineState> states = nothing();
        for (std::size_t i = 0;;) {
            show(states, "enumerated");
            for (i = 0; i < digits.size(); ++i) {
                digits[i] = (digits[i] + 1) % in_flight_[i].states();
                states[i] = in_flight_[i].state(digits[i]);
                if (digits[i] != 0) break;
            }
            if (i == digits.size()) return;
        }
    }

    /// Which of the lines in flight a recovery reads, if it finds all of them: indices.
    std::vector<std::size_t> read_by_recovery() {
        std::vector<std::size_t> read;
        if (!options_.recover) return read;
        std::unordered_set<std::uint64_t> lines;
        apply(everything());
        observer_.note_lines_read(&lines);
        options_.recover(region_);
        observer_.note_lines_read(nullptr);
        undo_.undo();
        put_back();
        for (std::size_t i = 0; i < in_flight_.size(); ++i)
            if (lines.contains(in_flight_[i].number)) read.push_back(i);
        return read;
    }

    void show_alone(std::size_t i) {
        std::vector<LineState> states = everything();
        states[i] = {};
        show(states, "all but line " + std::to_string(in_flight_[i].number));
        states = nothing();
        states[i] = in_flight_[i].all();
        show(states, "only line " + std::to_string(in_flight_[i].number));
    }

    /// Each kind of picture has its share: nothing and all; every line alone missing or alone
    /// present; everything up to some store, the last one torn or not; the rest by chance. Lines
    /// that recovery reads come first: every second picture by chance is of them alone.
    void sample() {
        show(nothing(), "nothing");
        show(everything(), "all");
        const std::size_t share = options_.per_fence_max / 4;
        const std::vector<std::size_t> read = read_by_recovery();
        for (const std::size_t i : some_of(read.size(), share / 4)) show_alone(read[i]);
        for (const std::size_t i : some_of(in_flight_.size(), share / (read.empty() ? 2 : 4)))
            show_alone(i);
        for (const std::size_t store : some_of_stores(share)) show_prefix(store);
        // By chance, until the share is used up; a set with few contents may not have as many.
        for (std::size_t tries = 0; shown_here_ < options_.per_fence_max; ++tries) {
            if (tries == 2 * options_.per_fence_max) break;
            const unsigned presence = 1 + static_cast<unsigned>(random_() % 9);  // of ten
            const auto any_state = [&](std::size_t i) -> LineState {
                const Line& line = in_flight_[i];
                if (random_() % 10 >= presence) return {};
                return random_() % 2 == 0 ? line.all() : line.state(random_() % line.states());
            };
            if (tries % 2 == 0 && !read.empty()) {
                std::vector<LineState> states = random_() % 2 == 0 ? nothing() : everything();
                for (const std::size_t i : read) states[i] = any_state(i);
                show(states, "sampled of what recovery reads");
                continue;
            }
            std::vector<LineState> states = nothing();
            for (std::size_t i = 0; i < states.size(); ++i) states[i] = any_state(i);
            show(states, "sampled");
        }
    }

    /// All of the stores before `store`, and a random part of it.
    void show_prefix(std::size_t store) {
        std::vector<LineState> states = nothing();
        std::vector<std::size_t> of_store;
        for (std::size_t i = 0; i < states.size(); ++i) {
            const auto& pieces = in_flight_[i].pieces;
            while (states[i].whole < pieces.size() && pieces[states[i].whole].store < store)
                ++states[i].whole;
            if (states[i].whole < pieces.size() && pieces[states[i].whole].store == store)
                of_store.push_back(i);
        }
        show(states, "all before store " + std::to_string(store));
        for (const std::size_t i : of_store) {
            const std::uint8_t words = in_flight_[i].pieces[states[i].whole].piece->words;
            states[i].words = static_cast<std::uint8_t>(words & random_());
        }
        show(states, "all before store " + std::to_string(store) + ", and that torn");
    }

    /// `count` of the numbers below `size`, rising; all if there are no more.
    std::vector<std::size_t> some_of(std::size_t size, std::size_t count) {
        std::vector<std::size_t> all(size);
        std::iota(all.begin(), all.end(), std::size_t{0});
        std::vector<std::size_t> some;
        std::ranges::sample(all, std::back_inserter(some), static_cast<std::ptrdiff_t>(count),
                            random_);
        return some;
    }
    std::vector<std::size_t> some_of_stores(std::size_t count) {
        std::vector<std::size_t> stores;
        for (const Line& line : in_flight_)
            for (const Flying& flying : line.pieces) stores.push_back(flying.store);
        std::ranges::sort(stores);
        stores.erase(std::unique(stores.begin(), stores.end()), stores.end());
        std::vector<std::size_t> some;
        for (const std::size_t i : some_of(stores.size(), count / 2)) some.push_back(stores[i]);
        return some;
    }

    /// Makes the image of `states`, until put_back().
    void apply(const std::vector<LineState>& states) {
        old_lines_.clear();
        changed_.clear();
        for (std::size_t i = 0; i < states.size(); ++i) {
            if (states[i] == LineState{}) continue;
            const std::byte* const line = scratch_.line(in_flight_[i].number);
            old_lines_.insert(old_lines_.end(), line, line + kLineBytes);
            changed_.push_back(in_flight_[i].number);
            scratch_.apply(log_, in_flight_[i], states[i]);
        }
    }
    void put_back() {
        for (std::size_t i = 0; i < changed_.size(); ++i)
            scratch_.restore(changed_[i], old_lines_.data() + i * kLineBytes);
    }

    void show(const std::vector<LineState>& states, const std::string& subset) {
        // Contents decide whether it is new; memory is as durable before and after.
        apply(states);
        if (seen_.insert(mix(scratch_.sum() + mix(completed_))).second) {
            const std::size_t index = next_image_++;
            ++shown_here_;
            if (!options_.only_image || *options_.only_image == index) {
                ++totals_.images;
                CrashImage image{index,   fences_, completed_, label(index, subset),
                                 memory_, region_, undo_};
                visit_(image);
                undo_.undo();
            }
        } else {
            ++totals_.duplicates;
        }
        put_back();
    }

    [[nodiscard]] std::string label(std::size_t index, const std::string& subset) const {
        std::string text = "image " + std::to_string(index) + " (seed " +
                           std::to_string(options_.seed) + ", per fence " +
                           std::to_string(options_.per_fence_max) + ") " + where_ + ", " +
                           std::to_string(in_flight_.size()) + " lines in flight: " + subset;
        if (options_.without) text += ", without " + options_.without->text();
        return text;
    }

    const CrashLog& log_;
    std::span<std::byte> memory_;
    const ImageOptions& options_;
    const ImageVisitor& visit_;
    Scratch scratch_;
    UndoLog undo_;
    UndoObserver observer_;
    pmem::Region region_;
    std::mt19937_64 random_;
    ImageTotals totals_;

    std::unordered_map<std::uint64_t, std::vector<Flying>> lines_;           // by number
    std::unordered_map<std::uint32_t, std::vector<std::uint64_t>> flushed_;  // lines, by thread
    std::size_t stores_ = 0;
    std::size_t fences_ = 0;
    std::uint64_t completed_ = 0;

    std::string where_;            // the crash being shown
    std::vector<Line> in_flight_;  // then
    std::size_t shown_here_ = 0;
    std::size_t next_image_ = 0;
    std::unordered_set<std::uint64_t> seen_;
    std::vector<std::byte> old_lines_;
    std::vector<std::uint64_t> changed_;
};

}  // namespace

void UndoLog::touch(std::uint64_t offset, std::uint64_t bytes) {
    for (std::uint64_t page = offset / kPageBytes; page * kPageBytes < offset + bytes; ++page) {
        if (!pages_.try_emplace(page, saved_.size()).second) continue;
        const auto old = memory_.subspan(page * kPageBytes, kPageBytes);
        saved_.insert(saved_.end(), old.begin(), old.end());
    }
}

void UndoLog::undo() {
    for (const auto& [page, place] : pages_)
        std::memcpy(memory_.data() + page * kPageBytes, saved_.data() + place, kPageBytes);
    pages_.clear();
    saved_.clear();
}

ImageTotals for_each_crash_image(const CrashLog& log, std::span<std::byte> scratch,
                                 const pmem::Capabilities& capabilities,
                                 const ImageOptions& options, const ImageVisitor& visit) {
    assert(scratch.size() % kPageBytes == 0);
    return Model(log, scratch, capabilities, options, visit).run();
}

}  // namespace pinfs::test
