#include "server/base/prelude.hpp"

#include "server/base/statement.hpp"

namespace job_alerting::server {

ParamListInfo texts(const char *const *values, int count) {
    ParamListInfo parameters = makeParamList(count);
    for (int i = 0; i < count; i++)
        parameters->params[i] = {.value = values[i] ? CStringGetTextDatum(values[i]) : 0,
                                 .isnull = !values[i],
                                 .pflags = PARAM_FLAG_CONST,
                                 .ptype = TEXTOID};
    return parameters;
}

ParamListInfo texts(std::initializer_list<const char *> values) {
    return texts(values.begin(), static_cast<int>(values.size()));
}

ParamListInfo parameter(Oid type, Datum value) {
    ParamListInfo parameters = makeParamList(1);
    parameters->params[0] = {
        .value = value, .isnull = false, .pflags = PARAM_FLAG_CONST, .ptype = type};
    return parameters;
}

SPITupleTable *execute(const char *statement, ParamListInfo parameters, DestReceiver *receiver) {
    SPIExecuteOptions options = {};
    options.params = parameters;
    options.dest = receiver;
    const int code = SPI_execute_extended(statement, &options);
    if (code < 0)
        elog(ERROR, "SPI failed: %s", SPI_result_code_string(code));
    return SPI_tuptable;
}

Datum datum_of(SPITupleTable *rows, int column, bool *absent) {
    bool unasked;
    return SPI_getbinval(rows->vals[0], rows->tupdesc, column, absent ? absent : &unasked);
}

char *text_of(SPITupleTable *rows, int column) {
    return SPI_getvalue(rows->vals[0], rows->tupdesc, column);
}

} // namespace job_alerting::server
