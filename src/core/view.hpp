// A digest as the templates see it: named strings and lists.

#pragma once

#include "core/phrases.hpp"

#include <kainjow/mustache.hpp>

namespace job_alerting::core {

// A name that a template asks for and the innermost level lacks is looked up in the outer ones, so
// no two levels share a name.
kainjow::mustache::data view_of(const Phrases &phrases);

} // namespace job_alerting::core
