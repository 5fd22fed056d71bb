#include "core/telling.hpp"

#include <algorithm>

namespace job_alerting::core {

namespace {

Found python(const TraceText &text);
Found php(const TraceText &text);
Found elixir(const TraceText &text);
Found go(const TraceText &text);
Found rust(const TraceText &text);
Found java_cause(const TraceText &text);
Found called_java(const TraceText &text, std::size_t line);
Found dotnet_inner(const TraceText &text);
Found node_cause(const TraceText &text);
Found ruby(const TraceText &text);
Found logged(const TraceText &text);
Telling first_line(const TraceText &text);

Telling whole(const TraceText &text, std::size_t line);
bool names_exception(std::string_view line);

} // namespace

Telling telling_of(const TraceText &text) {
    const Found of_python = python(text);
    // A Python that calls Java has the trace of that in its own message.
    if (const Found cause = java_cause(text);
        cause && (!of_python || cause->line > of_python->line))
        return *cause;
    if (of_python)
        return called_java(text, of_python->line + 1).value_or(*of_python);
    for (const auto find : {php, elixir, go, rust, dotnet_inner, node_cause, ruby, above_frames})
        if (const Found found = find(text))
            return *found;
    const Found found = logged(text);
    return found ? *found : first_line(text);
}

// Its message may have several lines.
Found above_frames(const TraceText &text) {
    std::size_t frame = 0;
    while (frame < text.size() && !is_at_frame(text[frame]))
        ++frame;
    if (frame == text.size())
        return std::nullopt;
    Found nearest;
    for (std::size_t line = frame; line-- > 0;) {
        if (is_blank(text[line]))
            continue;
        if (names_exception(text[line]))
            return whole(text, line);
        if (!nearest)
            nearest = whole(text, line);
    }
    return nearest;
}

namespace {

Telling whole(const TraceText &text, std::size_t line) {
    return {.line = line, .text = trimmed(text[line])};
}

// The rest of a line behind `mark`; nothing where that is blank, or the mark is missing.
std::optional<std::string_view> behind(std::string_view line, std::string_view mark) {
    const std::size_t at = line.find(mark);
    if (at == line.npos || is_blank(line.substr(at + mark.size())))
        return std::nullopt;
    return trimmed(line.substr(at + mark.size()));
}

// The exception behind the last frame from `from` on: the first line that is not indented as much.
Found exception_behind(const TraceText &text, std::size_t from, std::size_t end) {
    std::optional<std::size_t> frame;
    for (std::size_t line = from; line < end; ++line)
        if (is_python_frame(text[line]))
            frame = line;
    if (!frame)
        return std::nullopt;
    const std::size_t least = std::max<std::size_t>(indentation(text[*frame]), 1);
    for (std::size_t line = text.next(*frame + 1); line < end; line = text.next(line + 1))
        if (indentation(text[line]) < least && !is_divider(text[line]))
            return whole(text, line);
    return std::nullopt;
}

// The first exception of a group that is not a group itself.
Found first_of_group(const TraceText &text, std::size_t opening) {
    for (std::size_t line = opening + 1; line < text.size(); ++line) {
        if (!is_divider(text[line]))
            continue;
        if (opens_group(text[line])) {
            opening = line;
            continue;
        }
        if (const Found found = exception_behind(text, opening, line))
            return found;
        const std::size_t first = text.next(opening + 1);
        return first < line ? Found(whole(text, first)) : std::nullopt;
    }
    return std::nullopt;
}

// The last exception of a chain.
Found python(const TraceText &text) {
    std::optional<std::size_t> opening; // of a group
    std::size_t behind_groups = 0;
    for (std::size_t line = 0; line < text.size(); ++line) {
        if (trimmed(text[line]).starts_with("Fatal Python error: "))
            return whole(text, line);
        if (!opening && opens_group(text[line]))
            opening = line;
        if (opening && is_divider(text[line]))
            behind_groups = line + 1;
    }
    if (const Found found = exception_behind(text, behind_groups, text.size()))
        return found;
    return opening ? first_of_group(text, *opening) : std::nullopt;
}

// "Uncaught ..." or, with another exception before it, "Next ...".
Telling php_exception(const TraceText &text, std::size_t message, std::size_t end) {
    Telling telling = whole(text, message);
    for (std::size_t line = message; line < end; ++line)
        if (const auto uncaught = behind(text[line], "Uncaught "))
            telling = {.line = line, .text = *uncaught};
    if (telling.text.starts_with("Next "))
        telling.text.remove_prefix(5);
    return telling;
}

// The last exception, as in Python. Its message begins behind a blank line or the frames of
// another.
Found php(const TraceText &text) {
    Found found;
    std::size_t message = 0;
    for (std::size_t line = 0; line + 1 < text.size(); ++line) {
        if (message < line && trimmed(text[line]) == "Stack trace:" &&
            trimmed(text[line + 1]).starts_with("#0 "))
            found = php_exception(text, message, line);
        if (is_blank(text[line]) || is_frame(text[line]))
            message = line + 1;
    }
    return found;
}

Found elixir(const TraceText &text) {
    for (std::size_t line = text.size(); line-- > 0;)
        if (trimmed(text[line]).starts_with("** ("))
            return whole(text, line);
    return std::nullopt;
}

bool is_goroutine(std::string_view line) {
    const std::string_view header = trimmed(line);
    return header.starts_with("goroutine ") && header.ends_with("]:");
}

Telling without_recovery(Telling telling) {
    const std::size_t mark = telling.text.rfind(" [recovered");
    if (mark != telling.text.npos && mark > 0 && telling.text.ends_with("]"))
        telling.text = telling.text.substr(0, mark);
    return telling;
}

// The first panic, or what stands above the first goroutine.
Found go(const TraceText &text) {
    std::size_t goroutine = 0;
    while (goroutine < text.size() && !is_goroutine(text[goroutine]))
        ++goroutine;
    if (goroutine == text.size())
        return std::nullopt;
    for (std::size_t line = 0; line < text.size(); ++line)
        for (const std::string_view mark : {"panic: ", "fatal error: ", "panic serving "})
            if (trimmed(text[line]).starts_with(mark) ||
                (line < goroutine && behind(text[line], mark)))
                return without_recovery(whole(text, line));
    for (std::size_t line = goroutine; line-- > 0;)
        if (!is_noise(text[line]) && !trimmed(text[line]).starts_with("[signal "))
            return whole(text, line);
    return std::nullopt;
}

// "0: message" in a list of causes, or the message alone.
std::string_view without_number(std::string_view item) {
    const std::size_t digits = item.find_first_not_of("0123456789");
    if (digits > 0 && digits != item.npos && item.substr(digits).starts_with(": "))
        item = trimmed(item.substr(digits + 2));
    return item;
}

// The last of an error's causes: indented, below a heading.
Found listed_cause(const TraceText &text, std::size_t heading) {
    Found found;
    const std::size_t begin = heading + 1;
    for (std::size_t line = begin; line < text.size(); ++line) {
        const std::size_t indent = indentation(text[line]);
        if (is_blank(text[line]) || indent == 0)
            break;
        if (indent <= indentation(text[begin]))
            found = {.line = line, .text = without_number(trimmed(text[line]))};
    }
    return found && !found->text.empty() ? found : std::nullopt;
}

// A panic, whose message is quoted before its place or, since Rust 1.73, stands on the next line;
// or the last cause of an error.
Found rust(const TraceText &text) {
    for (std::size_t line = 0; line < text.size(); ++line) {
        const std::string_view panic = trimmed(text[line]);
        if (panic == "Caused by:")
            if (const Found found = listed_cause(text, line))
                return found;
        const auto where = behind(panic, "panicked at ");
        if (!where || panic.find("thread '") == panic.npos)
            continue;
        const std::size_t end = where->rfind("', ");
        if (where->starts_with("'") && end != where->npos && end > 1)
            return Telling{.line = line, .text = where->substr(1, end - 1)};
        const std::size_t message = text.next(line + 1);
        return whole(text, where->ends_with(":") && message < text.size() ? message : line);
    }
    return std::nullopt;
}

// The last cause that is one of the exception itself, and not of one that was suppressed.
Found java_cause(const TraceText &text) {
    constexpr std::string_view mark = "Caused by: ";
    Found found;
    std::size_t least = std::string_view::npos;
    for (std::size_t line = 0; line < text.size(); ++line) {
        const std::string_view cause = trimmed(text[line]);
        const std::size_t indent = indentation(text[line]);
        if (indent > 0 && cause.starts_with("Suppressed: "))
            least = std::min(least, indent - 1);
        if (indent > least || !cause.starts_with(mark) ||
            cause.substr(mark.size()).starts_with("[CIRCULAR REFERENCE"))
            continue;
        least = indent;
        found = {.line = line, .text = cause.substr(mark.size())};
    }
    return found;
}

// The exception of a Java that Python called: Py4J has it in the second line of its message.
Found called_java(const TraceText &text, std::size_t line) {
    if (line + 1 >= text.size() || !is_at_frame(text[line + 1]))
        return std::nullopt;
    const auto exception = behind(text[line], ": ");
    return exception && text[line].starts_with(": ") ? Found({.line = line, .text = *exception})
                                                     : std::nullopt;
}

// The innermost exception: they are all named before the first frame.
Found dotnet_inner(const TraceText &text) {
    constexpr std::string_view mark = "---> ";
    Found found;
    for (std::size_t line = 0; line < text.size(); ++line) {
        if (is_at_frame(text[line]) || trimmed(text[line]).starts_with("--- End of inner"))
            return found;
        const std::size_t at = text[line].rfind(mark);
        if (at != text[line].npos && !is_blank(text[line].substr(at + mark.size())))
            found = {.line = line, .text = trimmed(text[line].substr(at + mark.size()))};
    }
    return std::nullopt;
}

// A cause can be any value. An object says nothing on its first line.
bool is_told(std::string_view cause) {
    for (const std::string_view other : {"{", "[Object", "[Circular", "undefined", "null"})
        if (cause.starts_with(other))
            return false;
    return true;
}

// The innermost cause, or the first of several errors.
Found node_cause(const TraceText &text) {
    Found found;
    for (std::size_t line = 0; line < text.size(); ++line) {
        const std::string_view property = trimmed(text[line]);
        if (property == "[errors]: [")
            if (const std::size_t next = text.next(line + 1); next < text.size())
                return whole(text, next);
        const auto cause = behind(property, "[cause]: ");
        if (cause && property.starts_with("[cause]") && is_told(*cause))
            found = {.line = line, .text = *cause};
    }
    return found;
}

// "file.rb:12:in `method': message (Class)"; the last of them is the cause of the others.
Found ruby(const TraceText &text) {
    for (std::size_t line = text.size(); line-- > 0;) {
        const std::string_view raised = trimmed(text[line]);
        for (const std::string_view mark : {":in `", ":in '"}) {
            const std::size_t in = raised.find(mark);
            if (in == raised.npos || in == 0 || raised[in - 1] < '0' || raised[in - 1] > '9')
                continue;
            const std::size_t name = in + mark.size();
            if (const auto message = behind(raised.substr(name), "': "))
                return Telling{.line = line, .text = *message};
        }
    }
    return std::nullopt;
}

bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '$';
}

// Whether it names an exception: SomeError, some.Exception: ..., some.package.Name: ...
bool names_exception(std::string_view line) {
    const std::string_view text = trimmed(line);
    for (const std::string_view word : {"Error", "Exception"})
        for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
            const std::string_view rest = text.substr(at + word.size());
            if (rest.empty() || rest.starts_with(":") || rest.starts_with(" [") ||
                rest.starts_with(" ("))
                return true;
        }
    const auto end = std::find_if_not(text.begin(), text.end(), is_name);
    const std::string_view name(text.begin(), end);
    return name.find('.') != name.npos && name.find('.') > 0 &&
           text.substr(name.size()).starts_with(": ");
}

// A level, as psql and most loggers write it: ERROR, behind and before no other letter. The
// parts that the server adds to an error may quote another one.
bool has_level(std::string_view line) {
    for (const std::string_view part : {"DETAIL: ", "HINT: ", "CONTEXT: ", "STATEMENT: "})
        line = line.substr(0, line.find(part));
    for (const std::string_view level : {"ERROR", "FATAL", "PANIC", "CRITICAL"}) {
        const std::size_t at = line.find(level);
        if (at == line.npos)
            continue;
        const std::string_view rest = line.substr(at + level.size());
        const bool alone = at == 0 || !is_name(line[at - 1]);
        if (alone && !rest.empty() && std::string_view(":] -|/").find(rest.front()) != rest.npos)
            return true;
    }
    return false;
}

// The last error of a log.
Found logged(const TraceText &text) {
    for (std::size_t line = text.size(); line-- > 0;)
        if (has_level(text[line]))
            return Telling{.line = line, .text = trimmed(text[line]), .is_trace = false};
    return std::nullopt;
}

Telling first_line(const TraceText &text) {
    std::size_t line = 0;
    while (line < text.size() && is_noise(text[line]))
        ++line;
    Telling telling = whole(text, line < text.size() ? line : text.next(0));
    telling.is_trace = false;
    return telling;
}

} // namespace

} // namespace job_alerting::core
