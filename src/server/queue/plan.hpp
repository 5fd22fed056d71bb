// Plans that hold when a table is far larger than its statistics say. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Runs `work`, whose statements join tables that may both be large. A nested loop, which looks best
// when one of them is taken for small, would take the product of both.
template <typename Work> void without_nested_loops(Work &&work) {
    const int nesting = NewGUCNestLevel();
    set_config_option("enable_nestloop", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                      0, false);
    work();
    AtEOXact_GUC(false, nesting);
}

} // namespace job_alerting::server
