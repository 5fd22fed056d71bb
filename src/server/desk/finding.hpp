// What check() finds of one thing that it looks at. Throws what Transaction throws.

#pragma once

#include "server/coordination/rows.hpp"

namespace job_alerting::server {

struct Finding {
    std::string state = "ok";
    std::string detail;
    std::string hint;
};

Finding ok(const std::string &detail);
Finding warning(const std::string &detail, const std::string &hint);
Finding error(const std::string &detail, const std::string &hint);

// Returns it as the row of an item.
void add(Rows &rows, const std::string &item, const Finding &finding);

// The statement that sets it where it is set now: a database's own word is the last. Takes a
// transaction of its own.
std::string set_statement(const char *setting, const std::string &value);

} // namespace job_alerting::server
