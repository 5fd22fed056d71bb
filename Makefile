# job_alerting: a PGXS extension in C++20.
#
#   make && sudo make install     build and install for the server of pg_config
#   make installcheck             pg_regress and the TAP tests, against what is installed
#   make check-unit               the tests that need no server

# All of it works from another folder, too: make -f /path/to/Makefile
HERE := $(or $(VPATH),$(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST)))))
files = $(patsubst $(HERE)/%,%,$(wildcard $(addprefix $(HERE)/,$(1))))

EXTENSION = job_alerting
MODULE_big = job_alerting
DATA = $(sort $(call files,job_alerting--*.sql))

SOURCES = $(call files,src/core/*.cpp src/http/*.cpp src/server/*/*.cpp)
OBJS = $(sort $(SOURCES:.cpp=.o) src/core/templates.o)

REGRESS = $(sort $(patsubst sql/%.sql,%,$(call files,sql/*.sql)))
TAP_TESTS = 1
PROVE_TESTS = $(sort $(call files,test/t/*.pl))

PG_CONFIG ?= pg_config
CURL_CONFIG ?= curl-config

EXTENSION_VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(HERE)/$(EXTENSION).control)

# The server's headers as system headers: they are C, and not ours to warn about.
PG_CPPFLAGS = -I$(HERE)/src -isystem $(shell $(PG_CONFIG) --includedir-server) \
	$(shell $(CURL_CONFIG) --cflags) -DJOB_ALERTING_VERSION='"$(EXTENSION_VERSION)"'
# PGXS hands every compiler the warnings of the one that the server was compiled with. The debug
# information, enough for a backtrace with its lines, comes to a quarter of all that there is.
PG_CXXFLAGS = -std=c++20 -g1 -Wall -Wextra -Wno-unknown-warning-option $(WERROR)
# PGXS links with the C compiler.
SHLIB_LINK = $(shell $(CURL_CONFIG) --libs) -lstdc++
EXTRA_CLEAN = src/core/templates.cpp build

# No bitcode: nothing here is worth inlining into a compiled query, and it would compile all twice.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS tracks no headers, and makes no folders.
FOLDERS = $(sort $(dir $(OBJS)))
$(OBJS): $(addprefix $(HERE)/,$(call files,src/*/*.hpp src/*/*/*.hpp)) | $(FOLDERS)

$(FOLDERS):
	mkdir -p $@

src/core/templates.cpp: $(addprefix $(HERE)/,$(call files,templates/*)) | $(FOLDERS)
	$(HERE)/templates/embed > $@.new && mv $@.new $@

.PHONY: check-unit
check-unit:
	$(MAKE) -C $(HERE)/test/unit BUILD=$(CURDIR)/build/unit check
