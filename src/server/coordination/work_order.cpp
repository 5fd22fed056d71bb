#include "server/base/prelude.hpp"

#include "server/coordination/work_order.hpp"

namespace job_alerting::server {

bool start_worker(const WorkOrder &order, const char *database_name,
                  BackgroundWorkerHandle **handle) {
    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_notify_pid = MyProcPid;
    strlcpy(worker.bgw_library_name, "job_alerting", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, "job_alerting_worker_main", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "job_alerting worker", BGW_MAXLEN);
    pg_snprintf(worker.bgw_name, BGW_MAXLEN, "job_alerting worker for %s", database_name);
    static_assert(sizeof(order) <= BGW_EXTRALEN);
    memcpy(worker.bgw_extra, &order, sizeof(order));
    return RegisterDynamicBackgroundWorker(&worker, handle);
}

} // namespace job_alerting::server
