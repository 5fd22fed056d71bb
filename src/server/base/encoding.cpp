#include "server/base/prelude.hpp"

#include "server/base/encoding.hpp"

#include "server/base/guard.hpp"

namespace job_alerting::server {

namespace {

// Whether the database's text is used as UTF-8 without conversion.
bool needs_no_conversion() {
    return GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII;
}

// For two encodings that the server cannot convert between, such as MULE_INTERNAL and UTF-8. All
// server encodings share ASCII: copies the leading ASCII characters to `part` and returns their
// number.
int copy_ascii(const char *text, int length, unsigned char *part, int room) {
    int copied = 0;
    while (copied < Min(length, room - 1) && !IS_HIGHBIT_SET(text[copied])) {
        part[copied] = static_cast<unsigned char>(text[copied]);
        copied++;
    }
    part[copied] = '\0';
    return copied;
}

// Converts text and replaces each character that has no equivalent with '?': one bad byte in one
// job must not prevent a digest. C regime; the result is palloc'd.
char *convert(const char *text, int length, int from, int to) {
    const Oid conversion = FindDefaultConversionProc(from, to);
    const int room = MAX_CONVERSION_GROWTH * 1024 + 1;
    unsigned char *part = static_cast<unsigned char *>(palloc(room));
    StringInfoData converted;
    initStringInfo(&converted);
    while (length > 0) {
        unsigned char *source = reinterpret_cast<unsigned char *>(const_cast<char *>(text));
        const int done = OidIsValid(conversion)
                             ? pg_do_encoding_conversion_buf(conversion, from, to, source, length,
                                                             part, room, true)
                             : copy_ascii(text, length, part, room);
        appendStringInfoString(&converted, reinterpret_cast<char *>(part));
        text += done;
        length -= done;
        if (done > 0 || length == 0)
            continue;
        appendStringInfoChar(&converted, '?');
        const int skipped = Min(Max(pg_encoding_mblen(from, text), 1), length);
        text += skipped;
        length -= skipped;
    }
    pfree(part);
    return converted.data;
}

std::string converted(const std::string &text, int from, int to) {
    char *made = nullptr;
    guarded([&] { made = convert(text.data(), static_cast<int>(text.size()), from, to); });
    std::string result = made;
    pfree(made);
    return result;
}

} // namespace

const char *utf8_of(const char *text) {
    return needs_no_conversion()
               ? text
               : convert(text, static_cast<int>(strlen(text)), GetDatabaseEncoding(), PG_UTF8);
}

std::string to_utf8(const std::string &text) {
    return needs_no_conversion() ? text : converted(text, GetDatabaseEncoding(), PG_UTF8);
}

std::string from_utf8(const std::string &text) {
    return needs_no_conversion() ? text : converted(text, PG_UTF8, GetDatabaseEncoding());
}

void copy_text(char *target, std::size_t size, const char *text) {
    const int length =
        pg_mbcliplen(text, static_cast<int>(strlen(text)), static_cast<int>(size) - 1);
    memcpy(target, text, length);
    target[length] = '\0';
}

} // namespace job_alerting::server
