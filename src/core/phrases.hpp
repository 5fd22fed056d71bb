// The phrases of a digest, clean and clipped. Every channel shows the same phrases in its own form.
// An empty phrase is omitted.

#pragma once

#include "core/digest.hpp"
#include "core/layout.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace job_alerting::core {

struct JobPhrases {
    std::string name;               // like facts and link, empty for an unreadable queue
    std::string facts;              // status, attempts, time
    std::string link;               // an http address
    std::vector<std::string> error; // lines; the telling line comes first
    std::string no_error;           // replaces the error if there is none
};

struct CausePhrases {
    std::string title;
    std::string count;
    std::string mark;     // NEW or AGAIN
    std::string reported; // the last digest with this cause
    std::string period;
    std::string note;
    std::string error; // the common part of its errors, if it has several
    std::vector<JobPhrases> jobs;
    std::string rest; // count of the jobs not listed
};

struct SectionPhrases {
    std::string title;
    std::string broke;         // the step at which the chain broke
    bool broke_before = false; // an earlier digest reported that step
    std::string never_ran;     // the steps that never ran
    std::vector<CausePhrases> causes;
    std::string rest; // count of the causes not shown
};

struct Phrases {
    std::string headline;
    std::string preheader; // the first cause, in short
    std::string period;
    std::vector<std::string> notes;
    std::vector<SectionPhrases> sections;
    std::string rest; // count of the sections not shown
    std::string unnamed;
    std::string origin;
    std::string previous; // the previous digest
    std::string standing; // count of earlier failures that still stand
    std::string query;    // lists all failures
};

// Limit on notes. A digest counts further ones.
inline constexpr std::size_t max_notes = 10;

Phrases phrases_of(const Digest &digest, Extent extent, const std::string &job_url,
                   std::size_t notes = max_notes);

} // namespace job_alerting::core
