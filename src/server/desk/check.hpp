// check(): the doctor. It checks the server in the session, and the rest in a worker, so that the
// settings of the server and the database apply. This file and check_queue.hpp are all of it.

#pragma once

#include "server/coordination/rows.hpp"

namespace job_alerting::server {

// The worker's part: returns a row for each item, with its name, its state (ok, warning or error),
// what was found, and the statement or setting that fixes it. Writes nothing.
void check(Rows &rows);

// The result of one check. The functions below throw what Transaction and Rows throw.
struct Finding {
    std::string state = "ok";
    std::string detail;
    std::string hint;
};

Finding ok(const std::string &detail);
Finding warning(const std::string &detail, const std::string &hint);
Finding error(const std::string &detail, const std::string &hint);

// Returns the finding as the row of an item.
void add(Rows &rows, const std::string &item, const Finding &finding);

// The statement that sets a setting where it is set now, in the database or the server. Takes a
// transaction of its own.
std::string set_statement(const char *setting, const std::string &value);

} // namespace job_alerting::server
