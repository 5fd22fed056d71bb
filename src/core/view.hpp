// A digest as the templates see it: named strings and lists, clean and clipped.

#pragma once

#include "core/digest.hpp"
#include "core/layout.hpp"

#include <kainjow/mustache.hpp>

#include <string>

namespace job_alerting::core {

// A name that a template asks for and the innermost level lacks is looked up in the outer ones, so
// no two levels share a name.
kainjow::mustache::data view_of(const Digest &digest, Extent extent, const std::string &job_url);

} // namespace job_alerting::core
