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
Found java_under_python(const TraceText &text, std::size_t line);
Found dotnet_inner(const TraceText &text);
Found node_cause(const TraceText &text);
Found ruby(const TraceText &text);
Found logged(const TraceText &text);
Telling first_line(const TraceText &text);

Telling line_at(const TraceText &text, std::size_t line);
bool names_exception(std::string_view line);

} // namespace

Telling telling_of(const TraceText &text) {
    const Found of_python = python(text);
    // An exception of Java that Python called appears in Python's message, with its trace.
    if (const Found cause = java_cause(text);
        cause && (!of_python || cause->line > of_python->line))
        return *cause;
    if (of_python)
        return java_under_python(text, of_python->line + 1).value_or(*of_python);
    for (const auto find :
         {php, elixir, go, rust, dotnet_inner, node_cause, ruby, exception_above_frames})
        if (const Found found = find(text))
            return *found;
    const Found found = logged(text);
    return found ? *found : first_line(text);
}

// The message may have several lines, so prefer one that names an exception.
Found exception_above_frames(const TraceText &text) {
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
            return line_at(text, line);
        if (!nearest)
            nearest = line_at(text, line);
    }
    return nearest;
}

namespace {

Telling line_at(const TraceText &text, std::size_t line) {
    return {.line = line, .text = trimmed(text[line])};
}

// The text after `mark`; nullopt if the mark is missing or only blanks follow it.
std::optional<std::string_view> text_after(std::string_view line, std::string_view mark) {
    const std::size_t at = line.find(mark);
    if (at == line.npos || is_blank(line.substr(at + mark.size())))
        return std::nullopt;
    return trimmed(line.substr(at + mark.size()));
}

// The exception after the last frame in [from, end): the first line with less indentation.
Found exception_after_frames(const TraceText &text, std::size_t from, std::size_t end) {
    std::optional<std::size_t> frame;
    for (std::size_t line = from; line < end; ++line)
        if (is_python_frame(text[line]))
            frame = line;
    if (!frame)
        return std::nullopt;
    const std::size_t min_indent = std::max<std::size_t>(indentation(text[*frame]), 1);
    for (std::size_t line = text.next(*frame + 1); line < end; line = text.next(line + 1))
        if (indentation(text[line]) < min_indent && !is_divider(text[line]))
            return line_at(text, line);
    return std::nullopt;
}

// The first exception in a group that is not itself a group.
Found first_of_group(const TraceText &text, std::size_t opening) {
    for (std::size_t line = opening + 1; line < text.size(); ++line) {
        if (!is_divider(text[line]))
            continue;
        if (opens_group(text[line])) {
            opening = line;
            continue;
        }
        if (const Found found = exception_after_frames(text, opening, line))
            return found;
        const std::size_t first = text.next(opening + 1);
        return first < line ? Found(line_at(text, first)) : std::nullopt;
    }
    return std::nullopt;
}

// The last exception of a chain.
Found python(const TraceText &text) {
    std::optional<std::size_t> opening; // line that opens a group
    std::size_t after_groups = 0;
    for (std::size_t line = 0; line < text.size(); ++line) {
        if (trimmed(text[line]).starts_with("Fatal Python error: "))
            return line_at(text, line);
        if (!opening && opens_group(text[line]))
            opening = line;
        if (opening && is_divider(text[line]))
            after_groups = line + 1;
    }
    if (const Found found = exception_after_frames(text, after_groups, text.size()))
        return found;
    return opening ? first_of_group(text, *opening) : std::nullopt;
}

// The message begins with "Uncaught ", or with "Next " if another exception precedes it.
Telling php_exception(const TraceText &text, std::size_t message, std::size_t end) {
    Telling telling = line_at(text, message);
    for (std::size_t line = message; line < end; ++line)
        if (const auto uncaught = text_after(text[line], "Uncaught "))
            telling = {.line = line, .text = *uncaught};
    if (telling.text.starts_with("Next "))
        telling.text.remove_prefix(5);
    return telling;
}

// The last exception, as in Python. Its message begins after a blank line or after the frames of
// another exception.
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
            return line_at(text, line);
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

// The first panic, or the line above the first goroutine.
Found go(const TraceText &text) {
    std::size_t goroutine = 0;
    while (goroutine < text.size() && !is_goroutine(text[goroutine]))
        ++goroutine;
    if (goroutine == text.size())
        return std::nullopt;
    for (std::size_t line = 0; line < text.size(); ++line)
        for (const std::string_view mark : {"panic: ", "fatal error: ", "panic serving "})
            if (trimmed(text[line]).starts_with(mark) ||
                (line < goroutine && text_after(text[line], mark)))
                return without_recovery(line_at(text, line));
    for (std::size_t line = goroutine; line-- > 0;)
        if (!is_noise(text[line]) && !trimmed(text[line]).starts_with("[signal "))
            return line_at(text, line);
    return std::nullopt;
}

// Strips the number from "0: message".
std::string_view without_number(std::string_view item) {
    const std::size_t digits = item.find_first_not_of("0123456789");
    if (digits > 0 && digits != item.npos && item.substr(digits).starts_with(": "))
        item = trimmed(item.substr(digits + 2));
    return item;
}

// The last in the indented list of causes below a heading.
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

// A panic, or the last cause of an error. The message of a panic is quoted before the place; since
// Rust 1.73 it is on the next line.
Found rust(const TraceText &text) {
    for (std::size_t line = 0; line < text.size(); ++line) {
        const std::string_view panic = trimmed(text[line]);
        if (panic == "Caused by:")
            if (const Found found = listed_cause(text, line))
                return found;
        const auto where = text_after(panic, "panicked at ");
        if (!where || panic.find("thread '") == panic.npos)
            continue;
        const std::size_t end = where->rfind("', ");
        if (where->starts_with("'") && end != where->npos && end > 1)
            return Telling{.line = line, .text = where->substr(1, end - 1)};
        const std::size_t message = text.next(line + 1);
        return line_at(text, where->ends_with(":") && message < text.size() ? message : line);
    }
    return std::nullopt;
}

// The last cause of the exception itself. Skips the causes of suppressed exceptions.
Found java_cause(const TraceText &text) {
    constexpr std::string_view mark = "Caused by: ";
    Found found;
    std::size_t max_indent = std::string_view::npos;
    for (std::size_t line = 0; line < text.size(); ++line) {
        const std::string_view cause = trimmed(text[line]);
        const std::size_t indent = indentation(text[line]);
        if (indent > 0 && cause.starts_with("Suppressed: "))
            max_indent = std::min(max_indent, indent - 1);
        if (indent > max_indent || !cause.starts_with(mark) ||
            cause.substr(mark.size()).starts_with("[CIRCULAR REFERENCE"))
            continue;
        max_indent = indent;
        found = {.line = line, .text = cause.substr(mark.size())};
    }
    return found;
}

// The Java exception in the second line of a Py4J message.
Found java_under_python(const TraceText &text, std::size_t line) {
    if (line + 1 >= text.size() || !is_at_frame(text[line + 1]))
        return std::nullopt;
    const auto exception = text_after(text[line], ": ");
    return exception && text[line].starts_with(": ") ? Found({.line = line, .text = *exception})
                                                     : std::nullopt;
}

// The innermost exception. .NET names all of them before the first frame.
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

// A cause can be any value. The first line of an object describes nothing.
bool is_descriptive(std::string_view cause) {
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
                return line_at(text, next);
        const auto cause = text_after(property, "[cause]: ");
        if (cause && property.starts_with("[cause]") && is_descriptive(*cause))
            found = {.line = line, .text = *cause};
    }
    return found;
}

// "file.rb:12:in `method': message (Class)". The last one is the cause of the others.
Found ruby(const TraceText &text) {
    for (std::size_t line = text.size(); line-- > 0;) {
        const std::string_view raised = trimmed(text[line]);
        for (const std::string_view mark : {":in `", ":in '"}) {
            const std::size_t in = raised.find(mark);
            if (in == raised.npos || in == 0 || raised[in - 1] < '0' || raised[in - 1] > '9')
                continue;
            const std::size_t name = in + mark.size();
            if (const auto message = text_after(raised.substr(name), "': "))
                return Telling{.line = line, .text = *message};
        }
    }
    return std::nullopt;
}

bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '$';
}

// True for SomeError, some.Exception: ... and some.package.Name: ...
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

// True if the line has a level such as ERROR as a word of its own, as psql and most loggers write
// it. DETAIL and the other parts that the server adds are skipped: they may quote another error.
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
    Telling telling = line_at(text, line < text.size() ? line : text.next(0));
    telling.is_trace = false;
    return telling;
}

} // namespace

} // namespace job_alerting::core
