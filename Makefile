# job_alerting: a PGXS extension in C++20.
#
#   make && sudo make install     build and install for the server of pg_config
#   make installcheck             pg_regress and the TAP tests, against what is installed
#   make check-unit               the tests that need no server

EXTENSION = job_alerting
MODULE_big = job_alerting
DATA = $(sort $(wildcard job_alerting--*.sql))

SOURCES = $(wildcard src/core/*.cpp src/http/*.cpp src/server/*/*.cpp)
OBJS = $(sort $(SOURCES:.cpp=.o) src/core/templates.o)

REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
TAP_TESTS = 1
PROVE_TESTS = $(sort $(wildcard test/t/*.pl))

PG_CONFIG ?= pg_config
CURL_CONFIG ?= curl-config

# The server's headers as system headers: they are C, and not ours to warn about.
PG_CPPFLAGS = -Isrc -isystem $(shell $(PG_CONFIG) --includedir-server) $(shell $(CURL_CONFIG) --cflags)
PG_CPPFLAGS += -DJOB_ALERTING_VERSION='"$(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(EXTENSION).control)"'
# PGXS hands every compiler the warnings of the one that the server was compiled with.
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Wno-unknown-warning-option $(WERROR)
# PGXS links with the C compiler.
SHLIB_LINK = $(shell $(CURL_CONFIG) --libs) -lstdc++
EXTRA_CLEAN = src/core/templates.cpp build

# No bitcode: nothing here is worth inlining into a compiled query, and it would compile all twice.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS tracks no headers.
$(OBJS): $(wildcard src/*/*.hpp src/*/*/*.hpp)

src/core/templates.cpp: $(wildcard templates/*)
	templates/embed > $@.new && mv $@.new $@

.PHONY: check-unit
check-unit:
	$(MAKE) -C test/unit BUILD=$(CURDIR)/build/unit check
