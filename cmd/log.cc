// SPDX-License-Identifier: Apache-2.0
#include "cmd/log.h"

#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <syslog.h>

namespace pinfs::cmd {
namespace {

constexpr std::size_t kLinesKept = 1000;  // for MOUNT/.pinfs/log
constexpr const char* kPattern = "%Y-%m-%d %H:%M:%S.%e %^%l%$: %v";

void use(const std::shared_ptr<spdlog::logger>& logger, bool verbose) {
    logger->set_level(verbose ? spdlog::level::debug : spdlog::level::info);
    logger->flush_on(spdlog::level::info);
    const auto kept = std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(kLinesKept);
    kept->set_pattern(kPattern);
    logger->sinks().push_back(kept);
    spdlog::set_default_logger(logger);
}

}  // namespace

void log_to_terminal(bool verbose) {
    const auto logger = spdlog::stderr_color_mt("pinfs");
    logger->set_pattern(kPattern);
    use(logger, verbose);
}

void log_to_system(bool verbose) {
    const auto logger = spdlog::syslog_logger_mt("pinfs", "pinfs", LOG_PID, LOG_DAEMON);
    logger->set_pattern("%v");
    use(logger, verbose);
}

}  // namespace pinfs::cmd
