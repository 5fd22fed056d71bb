// Statements of the SPI connection that is open. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Parameters of a statement: texts, null for NULL, which the statement casts.
ParamListInfo texts(const char *const *values, int count);
ParamListInfo texts(std::initializer_list<const char *> values);

// One parameter of any type.
ParamListInfo parameter(Oid type, Datum value);

// Executes one statement. Returns its rows, or gives them to `receiver`; SPI_processed counts them.
SPITupleTable *execute(const char *statement, ParamListInfo parameters = nullptr,
                       DestReceiver *receiver = nullptr);

// A column of the first row: of any type, or as text, which is null for NULL.
Datum datum_of(SPITupleTable *rows, int column, bool *absent = nullptr);
char *text_of(SPITupleTable *rows, int column);

} // namespace job_alerting::server
