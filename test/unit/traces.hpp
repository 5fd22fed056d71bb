// Stack traces of many languages, and logs.

#pragma once

#include "samples.hpp"

#include <string>
#include <vector>

namespace job_alerting::core {

// In `text` and `telling`, @ stands for the exception, and % for a number that differs between
// runs.
struct Trace {
    std::string name;
    std::string text;
    std::string telling;
    std::string one; // two exceptions that the same frames may raise
    std::string other;
};

inline std::string replaced(std::string text, char what, const std::string &with) {
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + with.size()))
        text.replace(at, 1, with);
    return text;
}

inline std::string filled_in(const std::string &text, const std::string &exception, int number) {
    return replaced(replaced(text, '%', std::to_string(number)), '@', exception);
}

inline std::vector<Trace> traces() {
    return {
        {"Python",
         "Traceback (most recent call last):\n"
         "  File \"/app/worker.py\", line %, in run\n"
         "    handler(job)\n"
         "  File \"/app/refresh.py\", line %, in refresh\n"
         "    album = catalog[job.album]\n"
         "            ~~~~~~~^^^^^^^^^^^\n"
         "@\n",
         "@", "KeyError: 'album'", "ConnectionError: no route to catalog.example.com"},
        {"Python, a message of several lines",
         "Traceback (most recent call last):\n"
         "  File \"/app/store.py\", line %, in save\n"
         "    cursor.execute(statement)\n"
         "@\n"
         "DETAIL:  Key (id)=(%) already exists.\n"
         "\n"
         "[SQL: INSERT INTO album (id) VALUES (%)]\n",
         "@", "psycopg2.errors.UniqueViolation: duplicate key value",
         "psycopg2.errors.ForeignKeyViolation: no such artist"},
        {"Python, a chain",
         "Traceback (most recent call last):\n"
         "  File \"/app/quota.py\", line %, in spend\n"
         "    raise Exhausted(left)\n"
         "quota.Exhausted: 0 left\n"
         "\n"
         "During handling of the above exception, another exception occurred:\n"
         "\n"
         "Traceback (most recent call last):\n"
         "  File \"/app/worker.py\", line %, in run\n"
         "    step(job)\n"
         "@\n",
         "@", "worker.StepFailed: album %", "OSError: [Errno 28] No space left on device"},
        {"Python, a group",
         "  + Exception Group Traceback (most recent call last):\n"
         "  |   File \"/app/worker.py\", line %, in run\n"
         "  |     async with asyncio.TaskGroup() as group:\n"
         "  | ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)\n"
         "  +-+---------------- 1 ----------------\n"
         "    | ExceptionGroup: songs (1 sub-exception)\n"
         "    +-+---------------- 1 ----------------\n"
         "      | Traceback (most recent call last):\n"
         "      |   File \"/app/songs.py\", line %, in fetch\n"
         "      |     await get(url)\n"
         "      | @\n"
         "      +------------------------------------\n"
         "    +---------------- 2 ----------------\n"
         "    | ValueError: bad id\n"
         "    +------------------------------------\n",
         "@", "TimeoutError", "httpx.ConnectError: All connection attempts failed"},
        {"Python, a syntax error",
         "Traceback (most recent call last):\n"
         "  File \"/app/worker.py\", line %, in load\n"
         "    exec(compile(source, name, 'exec'))\n"
         "         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
         "  File \"plugin.py\", line %\n"
         "    def refresh(:\n"
         "                ^\n"
         "@\n",
         "@", "SyntaxError: invalid syntax", "IndentationError: unexpected indent"},
        {"Python, logged by Celery",
         "[2026-11-23 03:07:%,123: ERROR/ForkPoolWorker-3] Task refresh[6f2c] raised unexpected: "
         "x\n"
         "Traceback (most recent call last):\n"
         "  File \"/usr/lib/python3/dist-packages/celery/app/trace.py\", line %, in trace_task\n"
         "    R = retval = fun(*args, **kwargs)\n"
         "@\n",
         "@", "requests.exceptions.ReadTimeout: read timed out (30 s)", "MemoryError"},
        {"Python, drawn by Rich",
         "╭────────────── Traceback (most recent call last) ───────────────╮\n"
         "│ /app/worker.py:% in run                                        │\n"
         "│ ❱ %     album = catalog[job.album]                             │\n"
         "╰────────────────────────────────────────────────────────────────╯\n"
         "@\n",
         "@", "KeyError: 'album'", "ValueError: no artist"},
        {"Python that calls Java",
         "Traceback (most recent call last):\n"
         "  File \"/app/export.py\", line %, in run\n"
         "    songs.write.parquet(path)\n"
         "py4j.protocol.Py4JJavaError: An error occurred while calling o%.parquet.\n"
         ": @\n"
         "\tat org.apache.spark.sql.DataFrameWriter.parquet(DataFrameWriter.scala:%)\n"
         "\tat java.base/java.lang.Thread.run(Thread.java:840)\n",
         "@", "org.apache.spark.SparkException: Job aborted.", "java.lang.OutOfMemoryError: GC"},
        {"Java",
         "java.lang.IllegalStateException: cannot refresh album %\n"
         "\tat com.example.jobs.Refresh.run(Refresh.java:%)\n"
         "\tat java.base/java.lang.Thread.run(Thread.java:840)\n"
         "\tSuppressed: java.io.IOException: stream closed\n"
         "\t\tat com.example.jobs.Store.close(Store.java:%)\n"
         "\tCaused by: java.io.EOFException\n"
         "\t\t... 3 more\n"
         "Caused by: com.example.catalog.CatalogException: lookup failed\n"
         "\tat com.example.catalog.Client.get(Client.java:%)\n"
         "\t... 2 more\n"
         "Caused by: @\n"
         "\tat java.base/sun.nio.ch.Net.connect0(Native Method)\n"
         "\t... 7 more\n",
         "@", "java.net.ConnectException: Connection refused",
         "java.net.UnknownHostException: catalog.example.com"},
        {"Java, without a cause",
         "2026-11-23 03:07:%.123 ERROR [pool-%-thread-1] c.e.jobs.Worker - job % failed\n"
         "@\n"
         "\tat com.example.jobs.Worker.handle(Worker.java:%)\n"
         "\tat com.example.jobs.Worker.lambda$run$0(Worker.java:%)\n",
         "@", "java.lang.NullPointerException", "com.example.quota.Exhausted: 0 left"},
        {"Java, what was suppressed has a cause",
         "@\n"
         "\tat com.example.jobs.Refresh.run(Refresh.java:%)\n"
         "\tSuppressed: java.io.IOException: stream closed\n"
         "\t\tat com.example.jobs.Store.close(Store.java:%)\n"
         "\tCaused by: java.io.EOFException\n"
         "\t\t... 3 more\n",
         "@", "com.example.quota.Exhausted: 0 left", "java.lang.NullPointerException"},
        {"Java, a circle of causes",
         "java.lang.RuntimeException: step failed\n"
         "\tat com.example.jobs.Refresh.run(Refresh.java:%)\n"
         "Caused by: @\n"
         "\tat com.example.jobs.Refresh.load(Refresh.java:%)\n"
         "Caused by: [CIRCULAR REFERENCE: java.lang.RuntimeException: step failed]\n",
         "@", "java.io.EOFException", "java.io.IOException: disk full"},
        {"Kotlin",
         "Exception in thread \"worker-%\" @\n"
         "see the manual\n"
         "\tat com.example.WorkerKt.main(Worker.kt:%)\n",
         "Exception in thread \"worker-%\" @", "kotlin.KotlinNullPointerException: album",
         "kotlin.UninitializedPropertyAccessException: lateinit property has not been initialized"},
        {"Scala",
         "scala.MatchError: Job(%) (of class com.example.Job)\n"
         "\tat com.example.Worker$.run(Worker.scala:%)\n"
         "Caused by: @\n"
         "\t... 12 more\n",
         "@", "com.example.NoSuchStep: rebuild", "java.lang.ArithmeticException: / by zero"},
        {"Node",
         "/app/worker.js:%\n"
         "        throw error;\n"
         "        ^\n"
         "\n"
         "@\n"
         "    at Refresh.run (/app/refresh.js:%:11)\n"
         "    at async Worker.take (/app/worker.js:%:5) {\n"
         "  code: 'E%'\n"
         "}\n"
         "\n"
         "Node.js v20.20.2\n",
         "@", "TypeError: Cannot read properties of undefined", "RangeError: Invalid array length"},
        {"Node, a cause",
         "TypeError: fetch failed\n"
         "    at node:internal/deps/undici/undici:%:13 {\n"
         "  [cause]: Error: no stream\n"
         "      at Socket.close (node:net:%:8) {\n"
         "    [cause]: @\n"
         "        at TCPConnectWrap.afterConnect [as oncomplete] (node:net:%:16) {\n"
         "      errno: -111\n"
         "    }\n"
         "  }\n"
         "}\n",
         "@", "Error: connect ECONNREFUSED 127.0.0.1:5432", "Error: read ECONNRESET"},
        {"Node, a cause that is no error",
         "@\n"
         "    at Refresh.run (/app/refresh.js:%:11) {\n"
         "  [cause]: {\n"
         "    code: 'E%'\n"
         "  }\n"
         "}\n",
         "@", "Error: no album", "QuotaError: 0 left"},
        {"Node, several errors",
         "AggregateError: \n"
         "    at internalConnectMultiple (node:net:%:18) {\n"
         "  [errors]: [\n"
         "    @\n"
         "        at createConnectionError (node:net:%:14),\n"
         "    Error: connect ECONNREFUSED 10.0.0.%:5432\n"
         "        at createConnectionError (node:net:%:14)\n"
         "  ]\n"
         "}\n",
         "@", "Error: connect ETIMEDOUT ::1:5432", "Error: getaddrinfo ENOTFOUND db"},
        {".NET",
         "System.InvalidOperationException: album % cannot be refreshed\n"
         " ---> System.Net.Http.HttpRequestException: Connection refused (catalog:443)\n"
         " ---> @\n"
         "   at System.Net.Sockets.Socket.<ConnectAsync>g__WaitForConnect|281_0(ValueTask task)\n"
         "   --- End of inner exception stack trace ---\n"
         "   at Jobs.Refresh.Run(Int32 id) in /src/Refresh.cs:line %\n"
         "   --- End of inner exception stack trace ---\n"
         "   at Jobs.Worker.Take() in /src/Worker.cs:line %\n",
         "@", "System.Net.Sockets.SocketException (111): Connection refused",
         "System.IO.IOException: The stream was closed"},
        {".NET Framework",
         "System.Exception: album % ---> @\r\n"
         "   at Jobs.Refresh.Run(Int32 id) in C:\\src\\Refresh.cs:line %\r\n"
         "   --- End of inner exception stack trace ---\r\n"
         "   at Jobs.Worker.Take() in C:\\src\\Worker.cs:line %\r\n",
         "@", "System.TimeoutException: The operation has timed out.",
         "System.NullReferenceException: Object reference not set"},
        {".NET, without an inner exception",
         "Unhandled exception. @\n"
         "   at Jobs.Worker.Main(String[] args) in /src/Worker.cs:line %\n",
         "Unhandled exception. @", "System.IO.FileNotFoundException: Could not find file",
         "System.OutOfMemoryException: Array dimensions exceeded"},
        {"PHP",
         "PHP Fatal error:  Uncaught @ in /app/refresh.php:%\n"
         "Stack trace:\n"
         "#0 /app/worker.php(%): refresh(Array)\n"
         "#1 {main}\n"
         "  thrown in /app/refresh.php on line %\n",
         "@ in /app/refresh.php:%", "RuntimeException: no album", "TypeError: must be an array"},
        {"PHP, a chain",
         "PDOException: SQLSTATE[HY000] [2002] Connection refused in /app/db.php:%\n"
         "Stack trace:\n"
         "#0 /app/db.php(%): PDO->__construct('pgsql:host=db')\n"
         "#1 {main}\n"
         "\n"
         "Next @ in /app/query.php:%\n"
         "Stack trace:\n"
         "#0 /app/worker.php(%): query('SELECT 1')\n"
         "#1 {main}\n",
         "@ in /app/query.php:%", "Illuminate\\Database\\QueryException: no connection",
         "App\\Jobs\\GaveUp: after many attempts"},
        {"Ruby",
         "/app/refresh.rb:%:in `refresh': @\n"
         "\tfrom /app/worker.rb:%:in `block in run'\n"
         "\tfrom /app/worker.rb:%:in `<main>'\n",
         "@", "undefined method `id' for nil:NilClass (NoMethodError)",
         "no album (Catalog::Missing)"},
        {"Ruby, reversed",
         "Traceback (most recent call last):\n"
         "\t2: from /app/worker.rb:%:in `<main>'\n"
         "\t1: from /app/worker.rb:%:in `run'\n"
         "/app/refresh.rb:%:in `refresh': @\n",
         "@", "divided by 0 (ZeroDivisionError)", "key not found: :album (KeyError)"},
        {"Ruby 3.4, with a cause",
         "/app/worker.rb:%:in 'Worker#run': step failed (Worker::Failed)\n"
         "\tfrom /app/worker.rb:%:in '<main>'\n"
         "/app/refresh.rb:%:in 'Refresh#run': @\n"
         "\tfrom /app/worker.rb:%:in 'Worker#run'\n",
         "@", "execution expired (Timeout::Error)", "Broken pipe (Errno::EPIPE)"},
        {"Go",
         "2026/11/23 03:07:% refresh of album %\n"
         "panic: @ [recovered]\n"
         "\tpanic: @\n"
         "[signal SIGSEGV: segmentation violation code=0x1 addr=0x% pc=0x4a%]\n"
         "\n"
         "goroutine % [running]:\n"
         "main.refresh(0x%, 0x2a)\n"
         "\t/app/refresh.go:% +0x1d\n"
         "main.main()\n"
         "\t/app/main.go:% +0x85\n"
         "exit status 2\n",
         "panic: @", "runtime error: index out of range [%] with length 3",
         "assignment to entry in nil map"},
        {"Go, a goroutine dump",
         "fatal error: @\n"
         "\n"
         "goroutine 1 [semacquire, % minutes]:\n"
         "sync.runtime_Semacquire(0xc000%)\n"
         "\t/usr/lib/go/src/runtime/sema.go:% +0x25\n",
         "fatal error: @", "all goroutines are asleep - deadlock!", "concurrent map writes"},
        {"Go, a wrapped error", "refresh album %: fetch: Get \"https://catalog/%\": @", "*",
         "dial tcp 10.0.0.%:443: connect: connection refused", "context deadline exceeded"},
        {"Rust",
         "\n"
         "thread 'worker-%' (%) panicked at src/refresh.rs:%:17:\n"
         "@\n"
         "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
         "@", "called `Option::unwrap()` on a `None` value",
         "index out of bounds: the len is 3 but the index is %"},
        {"Rust, before 1.73",
         "thread 'main' panicked at '@', src/refresh.rs:%:17\n"
         "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
         "@", "called `Result::unwrap()` on an `Err` value: NotFound", "no album"},
        {"Rust, anyhow",
         "Error: album % could not be refreshed\n"
         "\n"
         "Caused by:\n"
         "    0: the catalog does not answer\n"
         "    1: @\n"
         "\n"
         "Stack backtrace:\n"
         "   0: anyhow::error::from\n"
         "             at /root/.cargo/anyhow/src/error.rs:%:25\n",
         "@", "Connection refused (os error 111)", "operation timed out"},
        {"Elixir",
         "** (exit) an exception was raised:\n"
         "    ** @\n"
         "        (catalog 0.1.0) lib/catalog/refresh.ex:%: Catalog.Refresh.run/1\n"
         "        (elixir 1.16.0) lib/task/supervised.ex:%: Task.Supervised.invoke_mfa/2\n",
         "** @", "(RuntimeError) no album",
         "(DBConnection.ConnectionError) connection not available"},
        {"psql",
         "psql:refresh.sql:%: NOTICE:  table \"staging\" does not exist, skipping\n"
         "psql:refresh.sql:%: ERROR:  @\n"
         "LINE %: SELECT * FROM albums\n"
         "                      ^\n",
         "psql:refresh.sql:%: ERROR:  @", "relation does not exist", "permission denied"},
        {"psql, an error that quotes another",
         "psql:refresh.sql:%: ERROR:  @\n"
         "DETAIL:  connection to server at \"10.0.0.%\", port 5432 failed: FATAL:  no such role\n"
         "STATEMENT:  SELECT 'ERROR: no'\n",
         "psql:refresh.sql:%: ERROR:  @", "could not connect to server", "cannot read the catalog"},
        {"a job's log",
         "2026-11-23 03:07:01,% INFO refresh begins\n"
         "2026-11-23 03:07:02,% ERROR first attempt failed\n"
         "2026-11-23 03:07:03,% INFO second attempt\n"
         "2026-11-23 03:07:04,% FATAL @\n"
         "2026-11-23 03:07:05,% INFO bye\n",
         "2026-11-23 03:07:04,% FATAL @", "no space left", "catalog is gone"},
        {"Perl", "@ at /app/refresh line %.\n\tmain::refresh(%) called at /app/worker line %\n",
         "@ at /app/refresh line %.", "no album", "Can't locate object method"},
    };
}

} // namespace job_alerting::core
