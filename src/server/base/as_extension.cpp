#include "server/base/prelude.hpp"

#include "server/base/as_extension.hpp"

namespace job_alerting::server {

void execute(const char *statement, int count, Datum *values) {
    Oid types[5];
    std::fill_n(types, lengthof(types), TEXTOID);
    const int code = SPI_execute_with_args(statement, count, types, values, nullptr, false, 0);
    if (code < 0)
        elog(ERROR, "SPI failed: %s", SPI_result_code_string(code));
}

} // namespace job_alerting::server
