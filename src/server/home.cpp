#include "server/prelude.hpp"

#include "server/home.hpp"

#include "server/guard.hpp"

#include <fstream>

extern "C" {
#include "access/xlog_internal.h"
}

namespace job_alerting::server {

namespace {

// The first line of the label that a base backup leaves behind where it was restored:
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

} // namespace

Home find_home() {
    Home home;
    home.place = std::to_string(GetSystemIdentifier()) + "/" + std::to_string(MyDatabaseId);
    guarded([&] { home.timeline = GetWALInsertionTimeLine(); });
    home.backup = backup_label();
    return home;
}

} // namespace job_alerting::server
