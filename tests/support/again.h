// SPDX-License-Identifier: Apache-2.0
//
// For what a test can only see in a fresh process: environment read at start, handlers installed
// once.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace pinfs::test {

/// Runs one hidden test case in a process of its own, with one more environment variable.
/// Returns its wait status: 0 if it passed.
inline int run_again(const std::string& test, const char* variable, const char* value) {
    const pid_t child = fork();
    if (child == 0) {
        setenv(variable, value, 1);
        unsetenv("PINFS_TEST_RESULTS");
        execl("/proc/self/exe", "again", test.c_str(), static_cast<char*>(nullptr));
        _exit(127);
    }
    int status = 0;
    return waitpid(child, &status, 0) == child ? status : -1;
}

}  // namespace pinfs::test
