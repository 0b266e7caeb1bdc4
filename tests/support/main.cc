// SPDX-License-Identifier: Apache-2.0
//
// The main function of every test program. Where the environment names a file in
// PINFS_TEST_RESULTS, each test case leaves two lines there: `begin` when it starts, then `pass` or
// `fail`. A case that has only the first line hung or took the program down.
#define CATCH_CONFIG_MAIN
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

namespace {

class ResultsListener : public Catch::TestEventListenerBase {
public:
    using TestEventListenerBase::TestEventListenerBase;

    void testRunStarting(const Catch::TestRunInfo& run) override {
        program_ = run.name;
        if (const char* path = std::getenv("PINFS_TEST_RESULTS"); path != nullptr)
            descriptor_ = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
    void testCaseStarting(const Catch::TestCaseInfo& test) override { record("begin", test.name); }
    void testCaseEnded(const Catch::TestCaseStats& stats) override {
        record(stats.totals.assertions.allOk() ? "pass" : "fail", stats.testInfo.name);
    }

private:
    // One write per line: several programs append to the same file.
    void record(const char* what, const std::string& test) {
        if (descriptor_ < 0) return;
        const std::string line = std::string(what) + '\t' + program_ + '\t' + test + '\n';
        if (write(descriptor_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
            std::abort();  // a result that is lost would count as no failure
    }

    std::string program_;
    int descriptor_ = -1;
};

}  // namespace

CATCH_REGISTER_LISTENER(ResultsListener)
