// SPDX-License-Identifier: Apache-2.0
//
// The inputs that fuzzing begins with, as they are and changed by chance for a while. What it finds
// with libFuzzer's help, for longer, is scripts/fuzz.
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "tests/fuzz/targets.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using Input = std::vector<std::uint8_t>;

constexpr std::chrono::seconds kTime{4};
constexpr std::size_t kBytesMax = 600;

std::vector<Input> corpus(const char* target) {
    std::vector<Input> inputs;
    const std::filesystem::path root{PINFS_SOURCE_DIR "/tests/fuzz/corpus"};
    for (const auto& entry : std::filesystem::directory_iterator{root / target}) {
        std::ifstream file{entry.path(), std::ios::binary};
        inputs.emplace_back(std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{});
    }
    return inputs;
}

/// Some bytes others, a piece of another input put in, or the end gone.
Input changed(Input input, const std::vector<Input>& others, std::mt19937_64& random) {
    for (std::size_t changes = 1 + random() % 4; changes > 0; --changes) {
        if (input.empty()) input.push_back(0);
        const std::size_t at = random() % input.size();
        const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
        const Input& other = others[random() % others.size()];
        switch (random() % 4) {
            case 0:
                *place = static_cast<std::uint8_t>(random());
                break;
            case 1:
                *place = static_cast<std::uint8_t>(*place ^ 1u << random() % 8);
                break;
            case 2:
                input.insert(place, other.begin(), other.end());
                break;
            default:
                input.resize(at);
        }
    }
    if (input.size() > kBytesMax) input.resize(kBytesMax);
    return input;
}

void try_all(const char* target, void (*run)(std::span<const std::uint8_t>)) {
    std::mt19937_64 random{test::seed_of_test(target, 5)};
    std::vector<Input> inputs = corpus(target);
    REQUIRE(inputs.size() > 5);
    for (const Input& input : inputs) run(input);
    std::size_t tried = inputs.size();
    for (const auto end = std::chrono::steady_clock::now() + kTime;
         std::chrono::steady_clock::now() < end; ++tried)
        run(changed(inputs[random() % inputs.size()], inputs, random));
    std::printf("%s: %zu inputs\n", target, tried);
}

TEST_CASE("no edit of a file system brings the judge, a mount or a repair down",
          "[check][repair][volume][fault]") {
    try_all("image", fuzz::try_image);
}

TEST_CASE("no answer of a daemon brings libpinfs down", "[library][fault]") {
    try_all("client", fuzz::try_client);
}

TEST_CASE("no ioctl brings the daemon down", "[fuse][fault]") { try_all("ioctl", fuzz::try_ioctl); }

}  // namespace
