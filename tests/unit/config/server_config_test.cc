#include "config/server_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "config/version.h"

namespace sluice::config {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Loads from `flags` (without the program's name) and `environment` ("NAME=value").
absl::StatusOr<LoadedConfig> Load(const std::vector<std::string>& flags,
                                  const std::vector<std::string>& environment = {}) {
  std::vector<const char*> argv = {"/usr/bin/sluice-server"};
  for (const std::string& flag : flags) argv.push_back(flag.c_str());
  argv.push_back(nullptr);
  std::vector<const char*> variables;
  for (const std::string& variable : environment) variables.push_back(variable.c_str());
  variables.push_back(nullptr);
  return LoadServerConfig(static_cast<int>(argv.size()) - 1, argv.data(), variables.data());
}

std::string Variable(const std::string& flag, const std::string& value) {
  return absl::StrCat("SLUICE_", absl::AsciiStrToUpper(flag), "=", value);
}

TEST(ServerConfigTest, WithoutFlagsEveryFieldHasItsDefault) {
  const auto loaded = Load({});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config, ServerConfig());
  EXPECT_EQ(loaded->text, "");
  EXPECT_THAT(loaded->warnings, IsEmpty());
}

struct GoodValue {
  const char* flag;
  const char* value;
  std::function<void(ServerConfig&)> change;  // of the defaults
};

const std::vector<GoodValue>& GoodValues() {
  static const std::vector<GoodValue> values = {
      {"model", "/models/x", [](ServerConfig& c) { c.model = "/models/x"; }},
      {"model", "", [](ServerConfig& c) {}},
      {"model_name", "my model/7B", [](ServerConfig& c) { c.model_name = "my model/7B"; }},
      {"listen", "0.0.0.0:0", [](ServerConfig& c) { c.listen = {"0.0.0.0:0"}; }},
      {"listen", "unix:/run/s.sock,[::1]:7",
       [](ServerConfig& c) {
         c.listen = {"unix:/run/s.sock", "[::1]:7"};
       }},
      {"socket_mode", "600", [](ServerConfig& c) { c.socket_mode = 0600; }},
      {"socket_mode", "0777", [](ServerConfig& c) { c.socket_mode = 0777; }},
      {"auth_tokens", "/t", [](ServerConfig& c) { c.auth_tokens = "/t"; }},
      {"max_metadata_bytes", "1MiB", [](ServerConfig& c) { c.max_metadata_bytes = 1 << 20; }},
      {"grpc_memory_bytes", "16MiB", [](ServerConfig& c) { c.grpc_memory_bytes = 16 << 20; }},
      {"keepalive_time", "1", [](ServerConfig& c) { c.keepalive_time = absl::Seconds(1); }},
      {"keepalive_timeout", "2", [](ServerConfig& c) { c.keepalive_timeout = absl::Seconds(2); }},
      {"access_log", "off", [](ServerConfig& c) { c.access_log = "off"; }},
      {"access_log", "/a.log", [](ServerConfig& c) { c.access_log = "/a.log"; }},
      {"log_prompts", "true", [](ServerConfig& c) { c.log_prompts = true; }},
      {"prefix_cache", "false", [](ServerConfig& c) { c.prefix_cache = false; }},
      {"max_waiting_tokens", "5", [](ServerConfig& c) { c.max_waiting_tokens = 5; }},
      {"priority_ageing", "3", [](ServerConfig& c) { c.priority_ageing = absl::Seconds(3); }},
      {"kv_cache_bytes", "auto", [](ServerConfig& c) { c.kv_cache_bytes.reset(); }},
      {"metrics_listen", "[::]:1", [](ServerConfig& c) { c.metrics_listen = "[::]:1"; }},
      {"metrics_listen", "", [](ServerConfig& c) { c.metrics_listen = ""; }},
      {"weights", "auto", [](ServerConfig& c) {}},
      {"weights", "f32", [](ServerConfig& c) { c.weights = WeightsFormat::kF32; }},
      {"weights", "bf16", [](ServerConfig& c) { c.weights = WeightsFormat::kBf16; }},
      {"weights", "int8", [](ServerConfig& c) { c.weights = WeightsFormat::kInt8; }},
      {"weights", "int4", [](ServerConfig& c) { c.weights = WeightsFormat::kInt4; }},
      {"threads", "1024", [](ServerConfig& c) { c.threads = 1024; }},
      {"kv_cache_bytes", "512MiB", [](ServerConfig& c) { c.kv_cache_bytes = 512 << 20; }},
      {"kv_cache_bytes", "65536", [](ServerConfig& c) { c.kv_cache_bytes = 65536; }},
      {"kv_cache_dtype", "auto", [](ServerConfig& c) {}},
      {"kv_cache_dtype", "bf16", [](ServerConfig& c) { c.kv_cache_dtype = KvCacheDtype::kBf16; }},
      {"kv_cache_dtype", "f32", [](ServerConfig& c) { c.kv_cache_dtype = KvCacheDtype::kF32; }},
      {"kv_cache_bytes", "1024TiB", [](ServerConfig& c) { c.kv_cache_bytes = int64_t{1} << 50; }},
      {"max_running_requests", "1", [](ServerConfig& c) { c.max_running_requests = 1; }},
      {"max_waiting_requests", "1", [](ServerConfig& c) { c.max_waiting_requests = 1; }},
      {"max_step_tokens", "1", [](ServerConfig& c) { c.max_step_tokens = 1; }},
      {"max_step_slowdown", "off", [](ServerConfig& c) { c.max_step_slowdown.reset(); }},
      {"max_step_slowdown", "1.1", [](ServerConfig& c) { c.max_step_slowdown = 1.1; }},
      {"max_step_slowdown", "1000", [](ServerConfig& c) { c.max_step_slowdown = 1000; }},
      {"max_context", "131072", [](ServerConfig& c) { c.max_context = 131072; }},
      {"default_max_tokens", "1", [](ServerConfig& c) { c.default_max_tokens = 1; }},
      {"max_message_bytes", "64KiB", [](ServerConfig& c) { c.max_message_bytes = 65536; }},
      {"max_message_bytes", "1GiB", [](ServerConfig& c) { c.max_message_bytes = 1 << 30; }},
      {"max_concurrent_streams", "7", [](ServerConfig& c) { c.max_concurrent_streams = 7; }},
      {"expert_metrics", "per_expert", [](ServerConfig& c) {}},
      {"expert_metrics", "per_layer",
       [](ServerConfig& c) { c.expert_metrics = ExpertMetrics::kPerLayer; }},
      {"expert_metrics", "off", [](ServerConfig& c) { c.expert_metrics = ExpertMetrics::kOff; }},
      {"log_level", "debug", [](ServerConfig& c) { c.log_level = "debug"; }},
      {"log_level", "warning", [](ServerConfig& c) { c.log_level = "warning"; }},
      {"log_level", "error", [](ServerConfig& c) { c.log_level = "error"; }},
      {"drain_timeout", "0", [](ServerConfig& c) { c.drain_timeout = absl::ZeroDuration(); }},
      {"drain_timeout", "90", [](ServerConfig& c) { c.drain_timeout = absl::Seconds(90); }},
  };
  return values;
}

TEST(ServerConfigTest, GoodValuesComeFromFlagsAndFromTheEnvironment) {
  for (const GoodValue& good : GoodValues()) {
    SCOPED_TRACE(absl::StrCat(good.flag, "=", good.value));
    ServerConfig want;
    good.change(want);
    const std::string flag = absl::StrCat("--", good.flag);
    const absl::StatusOr<LoadedConfig> loads[] = {
        Load({absl::StrCat(flag, "=", good.value)}),
        Load({flag, good.value}),
        Load({}, {Variable(good.flag, good.value)}),
    };
    for (const auto& loaded : loads) {
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->config, want);
      EXPECT_THAT(loaded->warnings, IsEmpty());
    }
  }
}

TEST(ServerConfigTest, BadValuesAreErrorsThatNameFlagVariableAndValue) {
  const struct {
    const char* flag;
    std::vector<std::string> values;
  } cases[] = {
      {"model_name", {"line\nbreak", std::string(257, 'x')}},
      {"listen", {"", "50051", ":50051", "host:99999", "h:1,", "h:1,,h:2", "unix:relative"}},
      {"socket_mode", {"", "66", "0888", "00660", "rw-"}},
      {"metrics_listen", {"9090", "host:port", "host:1", "[127.0.0.1]:1", "1.2.3:4"}},
      {"max_metadata_bytes", {"1023", "2MiB"}},
      {"grpc_memory_bytes", {"1MiB", "auto"}},
      {"keepalive_time", {"0", "86401", "1s"}},
      {"keepalive_timeout", {"0", ""}},
      {"access_log", {""}},
      {"log_prompts", {"", "yes", "1"}},
      {"prefix_cache", {"on", "TRUE"}},
      {"max_waiting_tokens", {"0", "-1"}},
      {"priority_ageing", {"0", "86401"}},
      {"weights", {"", "int2", "F32", "q4_0"}},
      {"threads", {"", "-1", "1025", "two"}},
      {"kv_cache_dtype", {"", "f16", "BF16", "int8"}},
      {"kv_cache_bytes", {"", "0", "65535", "1GB", "1025TiB", "-1"}},
      {"max_running_requests", {"0", "4097"}},
      {"max_waiting_requests", {"0", "1000001"}},
      {"max_step_tokens", {"0", "65537"}},
      {"max_step_slowdown", {"", "0", "1", "-3", "1000.1", "3x", "nan", "inf", "OFF"}},
      {"max_context", {"-1", "16777217"}},
      {"default_max_tokens", {"0", "16777217"}},
      {"max_message_bytes", {"1023", "2GiB"}},
      {"max_concurrent_streams", {"0", "1000001"}},
      {"expert_metrics", {"", "on"}},
      {"log_level", {"", "INFO", "trace"}},
      {"drain_timeout", {"-1", "86401", "30s"}},
  };
  for (const auto& c : cases) {
    for (const std::string& value : c.values) {
      SCOPED_TRACE(absl::StrCat(c.flag, "=", value));
      const std::string flag = absl::StrCat("--", c.flag);
      const auto by_flag = Load({absl::StrCat(flag, "=", value)});
      EXPECT_EQ(by_flag.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(by_flag.status().message()),
                  AllOf(HasSubstr(flag), HasSubstr(absl::StrCat("\"", value, "\""))));
      const std::string variable = Variable(c.flag, value);
      const auto by_variable = Load({}, {variable});
      EXPECT_EQ(by_variable.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(by_variable.status().message()),
                  AllOf(HasSubstr(flag), HasSubstr(variable.substr(0, variable.find('='))),
                        HasSubstr(absl::StrCat("\"", value, "\""))));
    }
  }
}

TEST(ServerConfigTest, TheFilesOfTlsGoTogether) {
  const auto whole = Load({"--tls_cert=/c", "--tls_key=/k", "--tls_client_ca=/a"});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->config.tls_cert, "/c");
  EXPECT_EQ(whole->config.tls_key, "/k");
  EXPECT_EQ(whole->config.tls_client_ca, "/a");
  for (const char* flag : {"tls_cert", "tls_key", "tls_client_ca"}) {
    const auto alone = Load({absl::StrCat("--", flag, "=/x")});
    EXPECT_EQ(alone.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(alone.status().message()), HasSubstr(absl::StrCat("--", flag)));
  }
}

TEST(ServerConfigTest, AFlagWinsOverTheEnvironment) {
  const auto loaded =
      Load({"--threads=3", "--metrics_listen="},
           {"SLUICE_THREADS=5", "SLUICE_METRICS_LISTEN=host:1", "SLUICE_MAX_CONTEXT=77"});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.threads, 3);
  EXPECT_EQ(loaded->config.metrics_listen, "");
  EXPECT_EQ(loaded->config.max_context, 77);
  // What is overridden need not even be valid.
  EXPECT_TRUE(Load({"--threads=3"}, {"SLUICE_THREADS=bad"}).ok());
}

TEST(ServerConfigTest, OfAFlagGivenTwiceTheLastCounts) {
  const auto loaded =
      Load({"--threads=3", "--threads", "4", "--metrics_listen=h:1", "--metrics_listen="});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.threads, 4);
  EXPECT_EQ(loaded->config.metrics_listen, "");
}

TEST(ServerConfigTest, UnknownFlagsAndStrayArgumentsAreErrorsThatNameThem) {
  const struct {
    std::vector<std::string> flags;
    const char* named;
  } cases[] = {
      {{"--max_contxt=4"}, "--max_contxt"},
      {{"--max_contxt", "4"}, "--max_contxt"},
      {{"--threads=2", "-x"}, "-x"},
      {{"--nothing="}, "--nothing"},
      {{"stray"}, "stray"},
      {{"--threads", "2", "3"}, "3"},
      {{"--", "late"}, "(see --help)"},
      {{"--threads"}, "--threads"},
  };
  for (const auto& c : cases) {
    const auto loaded = Load(c.flags);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << c.named;
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(c.named));
  }
}

TEST(ServerConfigTest, AVariableThatNamesNoFlagIsAWarning) {
  const auto loaded = Load({}, {"SLUICE_THREAD=4", "SLUICE_KERNELS=avx2", "SLUICE_GOLDEN_DIR=/g",
                                "SLUICE_CLIENT_TLS_CA=/c", "SLUICE_PORT=tcp://10.0.0.1:50051",
                                "SLUICE_SERVICE_HOST=10.0.0.1", "PATH=/bin", "SLUICE", "odd"});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config, ServerConfig());
  EXPECT_THAT(loaded->warnings, ElementsAre(HasSubstr("SLUICE_THREAD ")));
}

TEST(ServerConfigTest, HelpNamesEveryFlagWithItsDefault) {
  const auto loaded = Load({"--help"});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  for (const GoodValue& good : GoodValues()) {
    EXPECT_THAT(loaded->text, HasSubstr(absl::StrCat("--", good.flag, " ")));
  }
  for (const char* text : {"127.0.0.1:50051", "1GiB", "4MiB", "per_expert", "--tls_client_ca ",
                           "SLUICE_MAX_CONTEXT"}) {
    EXPECT_THAT(loaded->text, HasSubstr(text));
  }
}

TEST(ServerConfigTest, HelpAndVersionComeBeforeTheEnvironmentsErrors) {
  const auto help = Load({"--help"}, {"SLUICE_THREADS=bad"});
  ASSERT_TRUE(help.ok()) << help.status();
  EXPECT_THAT(help->text, HasSubstr("--threads"));
  const auto version = Load({"--version"});
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->text, absl::StrCat("sluice-server ", std::string(Version()), "\n"));
  EXPECT_EQ(std::string(Version()).find_first_not_of("0123456789."), std::string::npos);
}

TEST(ServerConfigTest, TheModelIsServedUnderItsFoldersName) {
  const std::string here = std::filesystem::current_path().filename().string();
  const struct {
    const char* model;
    const char* model_name;
    std::string want;
  } cases[] = {
      {"", "", "demo"},
      {"", "mine", "mine"},
      {"/no/such/Folder-7B", "", "Folder-7B"},
      {"/no/such/Folder-7B/", "", "Folder-7B"},
      {"/no/such/Folder-7B//", "", "Folder-7B"},
      {"relative/x/..", "", "relative"},
      {".", "", here},
      {"/m/a", "b", "b"},
  };
  for (const auto& c : cases) {
    ServerConfig config;
    config.model = c.model;
    config.model_name = c.model_name;
    EXPECT_EQ(ServedModelName(config), c.want) << c.model;
  }
}

}  // namespace
}  // namespace sluice::config
