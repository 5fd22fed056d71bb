#include "server/base/prelude.hpp"

#include "server/ledger/installation.hpp"

#include "server/base/guard.hpp"

#include <unistd.h>

#include <fstream>

extern "C" {
#include "access/xlog.h"
#include "access/xlog_internal.h"
}

namespace job_alerting::server {

namespace {

// The first line of the label file that stays behind after a base backup is restored:
// "START WAL LOCATION: 0/2000028 (file ...)".
std::string backup_label() {
    std::ifstream label(std::string(DataDir) + "/backup_label.old");
    std::string line;
    std::getline(label, line);
    constexpr std::string_view begin = "START WAL LOCATION: ";
    if (line.compare(0, begin.size(), begin) != 0)
        return {};
    return line.substr(begin.size(), line.find(" (") - begin.size());
}

std::string history_file(std::int64_t timeline) {
    char name[MAXFNAMELEN];
    TLHistoryFileName(name, static_cast<TimeLineID>(timeline));
    return name;
}

bool began_restored = false;

// The history file of a timeline has a line for each earlier one: "1\t0/3000000\tbefore 2026-07-14
// ...". The last field tells a promotion of a standby, which had no target, from a point-in-time
// recovery. A recovery to the end of the archive had no target either; only the server that
// performed it knows.
std::int64_t last_recovered(std::int64_t timeline) {
    std::ifstream history(std::string(DataDir) + "/pg_wal/" + history_file(timeline));
    std::int64_t recovered = 0;
    std::int64_t last = 0;
    for (std::string line; std::getline(history, line);) {
        const std::size_t reason = line.find('\t', line.find('\t') + 1);
        if (!isdigit(static_cast<unsigned char>(line[0])) || reason == std::string::npos)
            continue;
        last = std::stoll(line);
        if (line.compare(reason + 1, std::string::npos, "no recovery target specified") != 0)
            recovered = last;
    }
    return began_restored ? last : recovered;
}

} // namespace

void note_restoring() {
    began_restored =
        access(RECOVERY_SIGNAL_FILE, F_OK) == 0 && access(STANDBY_SIGNAL_FILE, F_OK) != 0;
}

Installation find_installation() {
    Installation installation;
    installation.place = std::to_string(GetSystemIdentifier()) + "/" + std::to_string(MyDatabaseId);
    guarded([&] { installation.timeline = GetWALInsertionTimeLine(); });
    installation.recovered = last_recovered(installation.timeline);
    installation.backup = backup_label();
    return installation;
}

} // namespace job_alerting::server
