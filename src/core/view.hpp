// The values for the templates: named strings and lists.

#pragma once

#include "core/phrases.hpp"

#include <kainjow/mustache.hpp>

namespace job_alerting::core {

// Mustache looks up a name that the innermost level lacks in the outer levels. Therefore no two
// levels share a name.
kainjow::mustache::data view_of(const Phrases &phrases);

} // namespace job_alerting::core
