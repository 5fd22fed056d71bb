#include "core/notes.hpp"

#include "core/digest.hpp"
#include "core/headline.hpp"
#include "core/text.hpp"

namespace job_alerting::core {

std::string late_note(std::int64_t attempts, const std::string &error) {
    return "This digest is late: " + counted(attempts, "earlier attempt", "earlier attempts") +
           " failed. The last error was: " + error;
}

std::string waited_note(std::int64_t digest, const std::string &since) {
    return "This digest is late: it waited for digest #" + std::to_string(digest) +
           ", whose delivery was in doubt. The first failure in this digest was recorded at " +
           since + ".";
}

std::string minimal_note(const std::string &error) {
    return "The full digest was refused (" + error + "). This short form only counts its failures.";
}

std::string doubt_note(std::int64_t digest, std::int64_t failures, const std::string &error) {
    const std::string call = "SELECT job_alerting.settle(" + std::to_string(digest) + ", ";
    return "Digest #" + std::to_string(digest) + " (" + counted(failures, "failure", "failures") +
           ") may not have reached you: " + error + ". If it arrived, run " + call +
           "true); if it did not, run " + call + "false);";
}

std::string recovered_note(const std::string &queue, const std::string &since) {
    return "Queue " + one_line(queue, max_name) + " has been readable again since " + since + ".";
}

std::string copy_note(const std::string &since) {
    return "This database is a copy or was restored from a backup. Rounds have run here since " +
           since +
           ". The original reports the failures that it had recorded. Failures between its last "
           "round and the copy may be reported by both.";
}

std::string unfinished_note() {
    return "The ledger is large, and the search for earlier failures ran out of time. A cause "
           "marked "
           "neither NEW nor AGAIN may be either. A chain may have broken earlier than shown here.";
}

std::string unmarked_note() {
    return "These failures were not compared with all earlier ones. A cause marked neither NEW nor "
           "AGAIN may be either.";
}

std::string promotion_note(const std::string &since) {
    return "This server was promoted. Rounds have run here since " + since +
           ". Failures that the former primary reported just before may be reported again here.";
}

} // namespace job_alerting::core
