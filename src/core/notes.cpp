#include "core/notes.hpp"

#include "core/digest.hpp"
#include "core/headline.hpp"
#include "core/text.hpp"

namespace job_alerting::core {

std::string late_note(std::int64_t attempts, const std::string &error) {
    return "This digest is late: " + counted(attempts, "earlier attempt", "earlier attempts") +
           " failed, the last with: " + error;
}

std::string waited_note(std::int64_t digest, const std::string &since) {
    return "This digest is late: it had to wait for digest #" + std::to_string(digest) +
           ", which was in doubt. Its first failure was recorded at " + since + ".";
}

std::string minimal_note(const std::string &error) {
    return "This digest was refused as it was (" + error +
           "), so its failures are only counted here.";
}

std::string doubt_note(std::int64_t digest, std::int64_t failures, const std::string &error) {
    const std::string call = "SELECT job_alerting.settle(" + std::to_string(digest) + ", ";
    return "Digest #" + std::to_string(digest) + " (" + counted(failures, "failure", "failures") +
           ") may not have reached you: " + error + ". If it did, " + call + "true); if not, " +
           call + "false).";
}

std::string mended_note(const std::string &queue, const std::string &since) {
    return "Queue " + one_line(queue, max_name) + " can be read again since " + since + ".";
}

std::string copy_note(const std::string &since) {
    return "This database is a copy, or was restored from a backup; rounds run here since " +
           since +
           ". What its original had recorded is the original's to tell; what failed between the "
           "original's last round and the copying may be told by both.";
}

std::string unfinished_note() {
    return "The ledger is large, and looking for earlier failures took too long. A cause without a "
           "mark may be new or known, and a chain may have broken earlier than is said here.";
}

std::string unmarked_note() {
    return "Not all earlier failures were compared with these. A cause without a mark may be new "
           "or "
           "known.";
}

std::string promotion_note(const std::string &since) {
    return "This server was promoted; rounds run here since " + since +
           ". Failures that the former primary reported in its last moments may be told here "
           "again.";
}

} // namespace job_alerting::core
