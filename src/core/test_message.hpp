// A message that shows that messages arrive.

#pragma once

#include "core/render.hpp"

namespace job_alerting::core {

// From this database; its name is cleaned, like all that a digest holds.
Mail test_message(const std::string &database);

} // namespace job_alerting::core
