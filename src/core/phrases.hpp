// A digest in phrases, clean and clipped: the same facts for every channel, each in its own form.
// An empty phrase is one that has nothing to say.

#pragma once

#include "core/digest.hpp"
#include "core/layout.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace job_alerting::core {

struct JobPhrases {
    std::string name;               // empty, like facts and link, where it is of a queue itself
    std::string facts;              // status, attempts, time
    std::string link;               // an http address
    std::vector<std::string> error; // its telling line, and more
    std::string no_error;           // what is said in their place
};

struct CausePhrases {
    std::string title;
    std::string count;
    std::string mark;     // whether an earlier digest has it: NEW or AGAIN
    std::string reported; // when last, and in which
    std::string period;
    std::string note;
    std::string error; // what its errors have in common, where it has several
    std::vector<JobPhrases> jobs;
    std::string rest; // of its jobs
};

struct SectionPhrases {
    std::string title;
    std::string broke;         // the step of a chain that did
    bool broke_before = false; // it is in no block here, but in an earlier digest
    std::string never_ran;     // the steps of it that did not
    std::vector<CausePhrases> causes;
    std::string rest; // of its causes
};

struct Phrases {
    std::string headline;
    std::string preheader; // what broke first, and why, in short
    std::string period;
    std::vector<std::string> notes;
    std::vector<SectionPhrases> sections;
    std::string rest; // of its sections
    std::string unnamed;
    std::string origin;
    std::string previous; // the last digest before it
    std::string standing; // of the failures reported earlier
    std::string query;    // that lists all failures
};

// How many notes a digest carries; further ones are counted.
inline constexpr std::size_t max_notes = 10;

Phrases phrases_of(const Digest &digest, Extent extent, const std::string &job_url,
                   std::size_t notes = max_notes);

} // namespace job_alerting::core
