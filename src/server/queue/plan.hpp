// Query plans that are robust against outdated statistics. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Runs `work`, whose statements join two tables that may both be large, without nested loops. The
// planner chooses a nested loop if it wrongly estimates one table as small, and that takes
// quadratic time.
template <typename Work> void without_nested_loops(Work &&work) {
    const int nesting = NewGUCNestLevel();
    set_config_option("enable_nestloop", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                      0, false);
    work();
    AtEOXact_GUC(false, nesting);
}

} // namespace job_alerting::server
