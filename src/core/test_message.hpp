// The message of send_test().

#pragma once

#include "core/render.hpp"

namespace job_alerting::core {

// Cleans the database's name.
Mail test_message(const std::string &database);

} // namespace job_alerting::core
