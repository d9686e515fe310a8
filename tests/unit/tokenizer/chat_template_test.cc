// What the interpreter of chat templates renders and refuses. The expected texts of the tables were
// made by Jinja2 3.1.6 with trim_blocks and lstrip_blocks on.

#include "tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "tokenizer/jinja/json.h"

namespace sluice::tokenizer {
namespace {

using testing::HasSubstr;

constexpr char kVariables[] = R"({
  "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "né"}],
  "s": "añ😀", "e": "", "n": 7, "zero": 0, "f": 1.5, "none_": null, "t": true,
  "l": [1, "two", null], "empty": [],
  "d": {"a": {"b": [5]}, "items": "own", "k 1": true, "1": "one"}, "bos": "<s>"
})";

jinja::Value Variables() {
  auto value = jinja::FromJson(nlohmann::ordered_json::parse(kVariables));
  EXPECT_TRUE(value.ok()) << value.status();
  return *std::move(value);
}

absl::StatusOr<std::string> Render(absl::string_view source) {
  static const jinja::Value variables = Variables();
  const auto parsed = ChatTemplate::Parse(source, {});
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(variables);
}

struct Rendered {
  std::string source;
  std::string expected;
};

void ExpectRendered(absl::string_view source, absl::string_view expected) {
  const auto text = Render(source);
  ASSERT_TRUE(text.ok()) << source << ": " << text.status();
  EXPECT_EQ(*text, expected) << source;
}

TEST(ChatTemplateTest, EvaluatesExpressionsAsPython) {
  const Rendered cases[] = {
      {"s", "añ😀"},
      {"bos", "<s>"},
      {"nothing", ""},
      {"none_", "None"},
      {"none", "None"},
      {"None", "None"},
      {"t", "True"},
      {"true", "True"},
      {"True", "True"},
      {"false", "False"},
      {"False", "False"},
      {"n", "7"},
      {"f", "1.5"},
      {"zero", "0"},
      {"l", "[1, 'two', None]"},
      {"d", "{'a': {'b': [5]}, 'items': 'own', 'k 1': True, '1': 'one'}"},
      {"empty", "[]"},
      {"messages", "[{'role': 'user', 'content': 'hi'}, {'role': 'assistant', 'content': 'né'}]"},
      {"'a' + 'b'", "ab"},
      {"'a' 'b' \"c\"", "abc"},
      {"1 + 2 + 3", "6"},
      {"true + 1", "2"},
      {"f + 1", "2.5"},
      {"1 + f == f + true", "True"},
      {"l + empty + l", "[1, 'two', None, 1, 'two', None]"},
      {"(l + empty) == l", "True"},
      {"'a' + ('b' + 'c')", "abc"},
      {"1 == 1", "True"},
      {"1 == true", "True"},
      {"0 == false", "True"},
      {"1 == '1'", "False"},
      {"none == false", "False"},
      {"none == none", "True"},
      {"nothing == none", "False"},
      {"nothing == nowhere", "True"},
      {"e == ''", "True"},
      {"f == 1", "False"},
      {"l == l", "True"},
      {"d == d", "True"},
      {"d.a == d", "False"},
      {"s == 'añ😀'", "True"},
      {"1 == 1 == 1", "True"},
      {"1 == 1 == 2", "False"},
      {"2 == 2 == true", "False"},
      {"1 + 1 == 2", "True"},
      {"'a' == 'a' + ''", "True"},
      {"l[0]", "1"},
      {"l[-1]", "None"},
      {"l[-3]", "1"},
      {"l[3]", ""},
      {"l[-4]", ""},
      {"l[true]", "two"},
      {"l['0']", ""},
      {"l[none]", ""},
      {"l[nothing]", ""},
      {"l.1", "two"},
      {"l.9", ""},
      {"s[0]", "a"},
      {"s[1]", "ñ"},
      {"s[2]", "😀"},
      {"s[-1]", "😀"},
      {"s[3]", ""},
      {"s['x']", ""},
      {"s.x", ""},
      {"e[0]", ""},
      {"d['a']", "{'b': [5]}"},
      {"d.a", "{'b': [5]}"},
      {"d.a.b[0]", "5"},
      {"d['a']['b'][-1]", "5"},
      {"d['items']", "own"},
      {"d['k 1']", "True"},
      {"d[1]", ""},
      {"d['1']", "one"},
      {"d.1", ""},
      {"d[l]", ""},
      {"d[none]", ""},
      {"d.missing", ""},
      {"d['missing']", ""},
      {"none['a']", ""},
      {"none.a", ""},
      {"n[0]", ""},
      {"n.a", ""},
      {"messages[0].role", "user"},
      {"messages[-1]['content']", "né"},
      {"messages.0['role'] + messages.1.content", "userné"},
      {"('x')", "x"},
      {"((n))", "7"},
      {"l[(0)]", "1"},
      {"l[zero]", "1"},
      {"l[zero + 1]", "two"},
      {"-1", "-1"},
      {"-1 + 2", "1"},
      {"1 + -1", "0"},
      {"0x1f", "31"},
      {"0XFF", "255"},
      {"0b101", "5"},
      {"0o17", "15"},
      {"1_000", "1000"},
      {"00", "0"},
      {"0_0", "0"},
      {"9223372036854775807", "9223372036854775807"},
      {"-9223372036854775807", "-9223372036854775807"},
      {"'\\n\\t\\r\\a\\b\\f\\v\\\\\\'\\\"'", "\n\t\r\007\010\014\013\\'\""},
      {"\"\\x41\\101\\u00e9\\U0001F600\"", "AAé😀"},
      {"'\\q\\8\\é'", "\\q\\8\\xe9"},
      {"'\\\nx'", "x"},
      {"'}}'", "}}"},
      {"'%}'", "%}"},
      {"'{# #}'", "{# #}"},
      {"'\"'", "\""},
      {"\"'\"", "'"},
      {"'\343\200\200é😀'", "\343\200\200é😀"},
      {"\302\240\343\200\200n\342\200\250", "7"},
      {"\té\n", ""},
      {"l[\n 0 ]", "1"},
      {"d\n.\na", "{'b': [5]}"},
      {"_x", ""},
      {"não", ""},
      {"lé", ""},
      {"loop", ""},
      {"x1", ""},
  };
  for (const auto& [source, expected] : cases) {
    ExpectRendered(absl::StrCat("{{ ", source, " }}"), expected);
  }
}

TEST(ChatTemplateTest, TakesValuesForTrueAsPython) {
  const struct {
    std::string source;
    bool expected;
  } cases[] = {
      {"nothing", false},   {"none", false},    {"false", false}, {"true", true},
      {"0", false},         {"1", true},        {"-1", true},     {"''", false},
      {"' '", true},        {"empty", false},   {"l", true},      {"d", true},
      {"f", true},          {"none_", false},   {"e", false},     {"zero", false},
      {"d.missing", false}, {"messages", true},
  };
  for (const auto& [source, expected] : cases) {
    ExpectRendered(absl::StrCat("{% if ", source, " %}yes{% else %}no{% endif %}"),
                   expected ? "yes" : "no");
  }
}

TEST(ChatTemplateTest, RunsStatements) {
  const Rendered cases[] = {
      {"{% for x in l %}{{ x }},{% endfor %}", "1,two,None,"},
      {"{% for x in 'añ😀' %}{{ x }},{% endfor %}", "a,ñ,😀,"},
      {"{% for x in d %}{{ x }},{% endfor %}", "a,items,k 1,1,"},
      {"{% for x in nothing %}{{ x }}{% endfor %}", ""},
      {"{% for x in empty %}x{% endfor %}", ""},
      {"{% for x in e %}x{% endfor %}", ""},
      {"{% for x in l + l %}{{ x }}{% endfor %}{{ x }}", "1twoNone1twoNone"},
      {"{% for n in l %}{{ n }}{% endfor %}{{ n }}", "1twoNone7"},
      {"{% for l in l %}{{ l }}{% endfor %}{{ l[0] }}", "1twoNone1"},
      {"{% for x in messages %}{% for y in messages %}{{ x.role + y.role == 'useruser' }}{% endfor "
       "%}{% endfor %}",
       "TrueFalseFalseFalse"},
      {"{% for x in d.a.b %}{% for x in l %}{{ x }}{% endfor %}{{ x }}{% endfor %}", "1twoNone5"},
      {"{% for x in l: %}{{ x }}{% endfor %}", "1twoNone"},
      {"{% for x in 'ab' 'c' %}{{ x }}{{ s }}{% endfor %}", "aañ😀bañ😀cañ😀"},
      {"{% for range in l %}{{ range }}{% endfor %}", "1twoNone"},
      {"{% for x in (l) %}{{ x.loop }}{% endfor %}", ""},
      {"{{ loop }}{% for x in loop %}{% endfor %}", ""},
      {"{% if t %}a{% else %}b{% endif %}", "a"},
      {"{% if e %}a{% else %}b{% endif %}", "b"},
      {"{% if e %}a{% elif n == 7 %}b{% elif t %}c{% else %}d{% endif %}", "b"},
      {"{% if e %}a{% elif none %}b{% elif empty %}c{% else %}d{% endif %}", "d"},
      {"{% if e %}a{% elif none %}b{% endif %}", ""},
      {"{% if t: %}a{% elif n: %}b{% else: %}c{% endif %}", "a"},
      {"{% if n == 7 == 7 %}a{% endif %}", "a"},
      {"{% if (n) %}a{% endif %}", "a"},
      {"{% if t %}{% if e %}a{% else %}b{% endif %}{% else %}c{% endif %}", "b"},
      {"{% if e %}{{ none + 1 }}{% endif %}ok", "ok"},
      {"{% if t %}ok{% elif none + 1 %}{% endif %}", "ok"},
      {"{% for x in empty %}{{ none + 1 }}{% endfor %}ok", "ok"},
  };
  for (const auto& [source, expected] : cases) ExpectRendered(source, expected);
}

TEST(ChatTemplateTest, ControlsWhiteSpace) {
  const Rendered cases[] = {
      {"a\n", "a"},
      {"a\n\n", "a\n"},
      {"a\r\n", "a"},
      {"a\r", "a"},
      {"a\n ", "a\n "},
      {"\n", ""},
      {"", ""},
      {"\r\n\r\nb\rc\r\n", "\n\nb\nc"},
      {"a {{ n }} b", "a 7 b"},
      {"a {{- n }} b", "a7 b"},
      {"a {{ n -}} b", "a 7b"},
      {"a\n\n {{- n -}} \t\n\nb", "a7b"},
      {"a {{+ n }}\nb", "a 7\nb"},
      {"{{ n }}\n{{ n }}\n", "7\n7"},
      {"  {{ n }}\n", "  7"},
      {"{% if t %}\na\n{% endif %}\nb", "a\nb"},
      {"  {% if t %}\n  a\n  {% endif %}\n  b", "  a\n  b"},
      {"x  {% if t %}\n  a\n x {% endif %}\n\n  b", "x    a\n x \n  b"},
      {"  {%+ if t %}\na{%+ endif %}\n", "  a"},
      {"{% if t +%}\na\n{% endif +%}\nb", "\na\n\nb"},
      {"a \n {%- if t %} b \n{%- endif %} c", "a b c"},
      {"a {% if t -%} \n b {% endif -%} \n c", "a b c"},
      {"\t \302\240{% if t %}a{% endif %}", "a"},
      {"\343\200\200{%- if t -%}\343\200\200a\342\200\250{%- endif -%}\342\200\250b", "ab"},
      {"\013\034{%- if t -%}\037\014x{% endif %}", "x"},
      {"\302\205{%- if t %}a{% endif %}", "a"},
      {"\342\200\213{%- if t %}a{% endif %}", "\342\200\213a"},
      {"\r\n {% if t %}\r\na\r\n{% endif %}\r\nb", "\na\nb"},
      {"a{# c #}b", "ab"},
      {"a {# c #} b", "a  b"},
      {"  {# c #}\nb", "b"},
      {" a {#- c -#} \n b", " ab"},
      {"  {#+ c +#}\nb", "  \nb"},
      {"{# {{ x }} {% if %} #}a", "a"},
      {"{#-#}a", "a"},
      {"{#--#} a", "a"},
      {"a {#+#} b", "a  b"},
      {"{##}a", "a"},
      {"{# - #} a", " a"},
      {"{#\n#}\n\na", "\na"},
      {"{# a #}{# b #}\n  {# c #}\n", ""},
      {"x\n  {# a #}  {# b #}\n", "x\n  "},
      {"{% if t %}{% endif %}\n  {% if t %}\nx{% endif %}", "x"},
      {"{{ '\n' }}\n{% if t %}\n{% endif %}", "\n\n"},
      {"{ { n } } % } {", "{ { n } } % } {"},
      {"{{ '{{' }}{{ \"%}\" }}", "{{%}"},
      {"{% if t %}a{%endif%}{%if t%}b{%endif%}", "ab"},
      {"{%if\nt\n%}\n\nx{%\tendif\t%}", "\nx"},
      {"{% for m in messages %}\n  {{ m.role }}\n{% endfor %}\nend", "  user\n  assistant\nend"},
      {"{% for m in messages -%}\n  {{ m.role }}\n{%- endfor %}\nend", "userassistantend"},
      {"{%- for m in messages %} {{- m.role -}} {% endfor -%}\n\n", "userassistant"},
      {"{{ n }}}", "7}"},
      {"{{ n }}\n}}", "7\n}}"},
      {"{ {{ n }}", "{ 7"},
      {"a {%- if t -%} {%- endif -%} b", "ab"},
      {"{{ n -}}\n{% if t %} x{% endif %}", "7 x"},
      {"{{ n -}}\n  {% if t %} x{% endif %}", "7 x"},
      {"{# c -#}\n  {% if t %} x{% endif %}", " x"},
      {"{{ n }}  {% if t %} x{% endif %}", "7   x"},
      {"{% if t %}  {% if t %}x{% endif %}{% endif %}", "  x"},
  };
  for (const auto& [source, expected] : cases) ExpectRendered(source, expected);
}

struct Refused {
  std::string source;
  int line;
  int column;
  std::string message;
};

std::string Place(const Refused& c) {
  return absl::StrCat("line ", c.line, ", column ", c.column, ": ", c.message);
}

TEST(ChatTemplateTest, RefusesTheRestOfJinjaByNameAndPlace) {
  const Refused cases[] = {
      {"{% set x = 1 %}", 1, 4, "the statement 'set'"},
      {"a\n  {% macro f() %}{% endmacro %}", 2, 6, "the statement 'macro'"},
      {"{% call f() %}{% endcall %}", 1, 4, "the statement 'call'"},
      {"{% filter upper %}x{% endfilter %}", 1, 4, "the statement 'filter'"},
      {"{% raw %}{{ x }{% endraw %}", 1, 4, "the statement 'raw'"},
      {"{% with a = 1 %}{% endwith %}", 1, 4, "the statement 'with'"},
      {"{% include \"x\" %}", 1, 4, "the statement 'include'"},
      {"{% generation %}x{% endgeneration %}", 1, 4, "the statement 'generation'"},
      {"{% for x in y %}{% break %}{% endfor %}", 1, 20, "the statement 'break'"},
      {"{{ x | trim }}", 1, 6, "the filter 'trim'"},
      {"{{ x is defined }}", 1, 6, "the test 'is defined'"},
      {"{{ x is not none }}", 1, 6, "the test 'is not none'"},
      {"{{ not x }}", 1, 4, "the operator 'not'"},
      {"{{ x and y }}", 1, 6, "the operator 'and'"},
      {"{{ x or y }}", 1, 6, "the operator 'or'"},
      {"{{ x in y }}", 1, 6, "the operator 'in'"},
      {"{{ x not in y }}", 1, 6, "the operator 'not in'"},
      {"{{ 1 - 1 }}", 1, 6, "the operator '-'"},
      {"{{ x ~ y }}", 1, 6, "the operator '~'"},
      {"{{ x != y }}", 1, 6, "the operator '!='"},
      {"{{ x < y }}", 1, 6, "the operator '<'"},
      {"{{ x % y }}", 1, 6, "the operator '%'"},
      {"{{ 2 ** 3 }}", 1, 6, "the operator '**'"},
      {"{{ 1 // 2 }}", 1, 6, "the operator '//'"},
      {"{{ -x }}", 1, 4, "the sign '-' before anything but an integer"},
      {"{{ --1 }}", 1, 4, "the sign '-' before anything but an integer"},
      {"{{ -1[0] }}", 1, 4, "the sign '-' before anything but an integer"},
      {"{{ +1 }}", 1, 4, "the sign '+'"},
      {"{{ f(x) }}", 1, 4, "a call of 'f'"},
      {"{{ a.strip() }}", 1, 6, "a call of 'strip'"},
      {"{{ a[\"b\"]() }}", 1, 10, "a call"},
      {"{{ (a)(1) }}", 1, 7, "a call"},
      {"{{ \"a\".upper() }}", 1, 8, "a call of 'upper'"},
      {"{{ x[1:] }}", 1, 7, "a slice"},
      {"{{ x[:1] }}", 1, 6, "a slice"},
      {"{{ x[::-1] }}", 1, 6, "a slice"},
      {"{{ x[1, 2] }}", 1, 7, "a tuple"},
      {"{{ x[] }}", 1, 6, "an empty subscript"},
      {"{{ [1] }}", 1, 4, "a list"},
      {"{{ {} }}", 1, 4, "a dict"},
      {"{{ () }}", 1, 4, "a tuple"},
      {"{{ (1, 2) }}", 1, 6, "a tuple"},
      {"{{ 1, 2 }}", 1, 5, "a tuple"},
      {"{{ 1.5 }}", 1, 4, "a number with a fraction or an exponent"},
      {"{{ 1e3 }}", 1, 4, "a number with a fraction or an exponent"},
      {"{{ 99999999999999999999 }}", 1, 4, "an integer of more than 64 bits"},
      {"{{ \"\\N{DASH}\" }}", 1, 4, "the escape \\N in a string"},
      {"{{ a if b else c }}", 1, 6, "the conditional expression 'if'"},
      {"{{ a if b }}", 1, 6, "the conditional expression 'if'"},
      {"{% for x in y %}{{ loop.index }}{% endfor %}", 1, 20, "the variable 'loop'"},
      {"{% for x in y %}{% for z in loop.x %}{% endfor %}{% endfor %}", 1, 29,
       "the variable 'loop'"},
      {"{% for a, b in y %}{% endfor %}", 1, 9, "a 'for' with a tuple as its target"},
      {"{% for (a, b) in y %}{% endfor %}", 1, 8, "a 'for' with a tuple as its target"},
      {"{% for a in y if a %}{% endfor %}", 1, 15, "a 'for' with an 'if'"},
      {"{% for a in y recursive %}{% endfor %}", 1, 15, "a recursive 'for'"},
      {"{% for a in y %}\nx{% else %}{% endfor %}", 2, 5, "a 'for' with an 'else'"},
      {"{% for a in y, z %}{% endfor %}", 1, 14, "a tuple"},
      {"{{ range }}", 1, 4, "the function 'range'"},
      {"{{ namespace }}", 1, 4, "the function 'namespace'"},
      {"{% if x is string %}{% endif %}", 1, 9, "the test 'is string'"},
      {"é日 {{ é | f }}", 1, 9, "the filter 'f'"},
      {"a\r\n\r\n\t{{ x | f }}", 3, 7, "the filter 'f'"},
      {"{{ \"\n\" | f }}", 2, 3, "the filter 'f'"},
      {"{{ {{ x }} }}", 1, 4, "a dict"},
  };
  for (const Refused& c : cases) {
    const absl::Status status = ChatTemplate::Parse(c.source, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << c.source;
    EXPECT_EQ(status.message(), Place(c) + " is not supported") << c.source;
  }
}

TEST(ChatTemplateTest, RefusesWhatIsNoTemplateWithItsPlace) {
  const Refused cases[] = {
      {"{{", 1, 3, "expected an expression, but there is the end of the template"},
      {"{{ x", 1, 5, "expected '}}', but there is the end of the template"},
      {"{{ x }", 1, 6, "unexpected '}'"},
      {"{% if x %}", 1, 4, "the block has no 'endif'"},
      {"{% if x %}{% else %}", 1, 4, "the block has no 'endif'"},
      {"{% for x in y %}\n", 1, 4, "the block has no 'endfor'"},
      {"{% endif %}", 1, 4, "there is no statement 'endif' here"},
      {"{% if x %}{% endfor %}", 1, 14, "there is no statement 'endfor' here"},
      {"{% foo %}", 1, 4, "there is no statement 'foo' here"},
      {"{% %}", 1, 4, "expected the name of a statement, but there is '%}'"},
      {"{{ }}", 1, 4, "expected an expression, but there is '}}'"},
      {"{{ x y }}", 1, 6, "expected '}}', but there is 'y'"},
      {"{{ x. }}", 1, 7, "expected a name or a number, but there is '}}'"},
      {"{{ x[\"a }}", 1, 6, "the string has no end"},
      {"{{ x[0 }}", 1, 8, "unexpected '}', expected ']'"},
      {"{{ (x }}", 1, 7, "unexpected '}', expected ')'"},
      {"{{ x) }}", 1, 5, "unexpected ')'"},
      {"{{ x] }}", 1, 5, "unexpected ']'"},
      {"{{ } }}", 1, 4, "unexpected '}'"},
      {"{{ x == }}", 1, 9, "expected an expression, but there is '}}'"},
      {"{{ x + }}", 1, 8, "expected an expression, but there is '}}'"},
      {"{{ + }}", 1, 6, "expected an expression, but there is '}}'"},
      {"{{ $ }}", 1, 4, "unexpected character '$'"},
      {"{{ a & b }}", 1, 6, "unexpected character '&'"},
      {"{{ \"abc", 1, 4, "the string has no end"},
      {"{# abc", 1, 1, "the comment has no end"},
      {"a {#", 1, 3, "the comment has no end"},
      {"{% if %}{% endif %}", 1, 7, "expected an expression, but there is '%}'"},
      {"{% if x %}{% elif %}{% endif %}", 1, 19, "expected an expression, but there is '%}'"},
      {"{% if x %}{% else %}{% else %}{% endif %}", 1, 24, "there is no statement 'else' here"},
      {"{% if x %}{% else %}{% elif y %}{% endif %}", 1, 24, "there is no statement 'elif' here"},
      {"{% if x %}{% endif y %}", 1, 20, "expected '%}', but there is 'y'"},
      {"{% else %}", 1, 4, "there is no statement 'else' here"},
      {"{% for %}{% endfor %}", 1, 8, "expected a name, but there is '%}'"},
      {"{% for x %}{% endfor %}", 1, 10, "expected 'in', but there is '%}'"},
      {"{% for x in %}{% endfor %}", 1, 13, "expected an expression, but there is '%}'"},
      {"{% for 1 in x %}{% endfor %}", 1, 8, "expected a name, but there is '1'"},
      {"{% for x.y in z %}{% endfor %}", 1, 9, "expected 'in', but there is '.'"},
      {"{% for true in z %}{% endfor %}", 1, 8, "expected a name, but there is 'true'"},
      {"{% for loop in z %}{% endfor %}", 1, 8, "'loop' cannot be the target of a 'for'"},
      {"{% for x in y %}{% if z %}{% endfor %}", 1, 30, "there is no statement 'endfor' here"},
      {"{{ \"\\x4\" }}", 1, 4, "a string has \\x without 2 hexadecimal digits"},
      {"{{ \"\\ud800\" }}", 1, 4, "an escape in a string names U+D800, which is no character"},
      {"{{ \"\\U00110000\" }}", 1, 4,
       "an escape in a string names U+110000, which is no character"},
      {"{{ x | }}", 1, 8, "expected the name of a filter, but there is '}}'"},
      {"{{ x is }}", 1, 9, "expected the name of a test, but there is '}}'"},
      {"{{ a not b }}", 1, 6, "unexpected 'not'"},
      {"{{ 1abc }}", 1, 5, "expected '}}', but there is 'abc'"},
      {"{{ 007 }}", 1, 6, "expected '}}', but there is '7'"},
      {"{{ x . 1.5 }}", 1, 8, "expected a name or a number, but there is '1.5'"},
      {"{{ else }}", 1, 4, "expected an expression, but there is 'else'"},
      {"{% \"if\" %}", 1, 4, "expected the name of a statement, but there is a string"},
      {"{% if x", 1, 8, "expected '%}', but there is the end of the template"},
      {"{{ x }}\n{% if y %}\n\n{{ z", 4, 5, "expected '}}', but there is the end of the template"},
      {"{{ x %}", 1, 7, "unexpected '}'"},
      {"{% if x }}", 1, 9, "unexpected '}'"},
  };
  for (const Refused& c : cases) {
    const absl::Status status = ChatTemplate::Parse(c.source, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.source;
    EXPECT_EQ(status.message(), Place(c)) << c.source;
  }
  EXPECT_EQ(ChatTemplate::Parse("a\xff", {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ChatTemplateTest, FailsWhereJinjaRaises) {
  const Refused cases[] = {
      {"{{ nothing.a }}", 1, 12, "'nothing' is undefined"},
      {"{{ nothing['a'] }}", 1, 11, "'nothing' is undefined"},
      {"\n{{ d.x.y }}", 2, 8, "a dict has no 'x'"},
      {"{{ l[7].a }}", 1, 9, "a list has no element 7"},
      {"{{ messages[0].content.x.y }}", 1, 26, "a str has no 'x'"},
      {"{{ nothing + 'a' }}", 1, 12, "'nothing' is undefined"},
      {"{{ 'a' + nothing }}", 1, 8, "'nothing' is undefined"},
      {"{{ d['x'] + 'a' }}", 1, 11, "a dict has no 'x'"},
      {"{{ none + 'a' }}", 1, 9, "cannot add a str to a NoneType"},
      {"{{ 'a' + 1 }}", 1, 8, "cannot add a int to a str"},
      {"{{ 'a' + 'b' + none }}", 1, 14, "cannot add a NoneType to a str"},
      {"{{ l + 'a' }}", 1, 6, "cannot add a str to a list"},
      {"{{ d + d }}", 1, 6, "cannot add a dict to a dict"},
      {"{{ l[nothing.x] }}", 1, 14, "'nothing' is undefined"},
      {"{% if nothing.x %}{% endif %}", 1, 15, "'nothing' is undefined"},
      {"{% for x in none %}{% endfor %}", 1, 13, "'for' cannot run over a NoneType"},
      {"{% for x in n %}{% endfor %}", 1, 13, "'for' cannot run over a int"},
      {"{{ 9223372036854775807 + 1 }}", 1, 24, "a sum does not fit into 64 bits"},
  };
  for (const Refused& c : cases) {
    const absl::Status status = Render(c.source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.source;
    EXPECT_EQ(status.message(), Place(c)) << c.source;
  }
}

TEST(ChatTemplateTest, RefusesMethodsOfValues) {
  for (const char* source : {"{{ d.items }}", "{{ d['keys'] }}", "{{ s.upper }}", "{{ l.append }}",
                             "{{ n.real }}", "{{ none.__class__ }}", "{% if d.get %}{% endif %}"}) {
    const absl::Status status = Render(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << source;
    EXPECT_THAT(std::string(status.message()), HasSubstr("line 1, column ")) << source;
  }
}

TEST(ChatTemplateTest, GivesTheVariablesOfTheContract) {
  const auto parsed = ChatTemplate::Parse(
      "{{ bos_token }}|{{ eos_token }}|{{ tools }}|{{ documents }}|{{ add_generation_prompt }}"
      "{% for m in messages %}|{{ m }}{% endfor %}|{{ other }}",
      {.bos_token = "<s>", .eos_token = "</s>"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const ChatMessage messages[] = {{"user", "it's"}, {"assistant", "ok"}};
  EXPECT_EQ((*parsed)->Render(messages, true).value(),
            "<s>|</s>|None|None|True|{'role': 'user', 'content': \"it's\"}"
            "|{'role': 'assistant', 'content': 'ok'}|");
  EXPECT_EQ((*parsed)->Render({}, false).value(), "<s>|</s>|None|None|False|");
}

TEST(ChatTemplateTest, SpecialTokensThatAreMissingAreUndefined) {
  const auto prints = ChatTemplate::Parse("[{{ bos_token }}{% if eos_token %}x{% endif %}]", {});
  EXPECT_EQ((*prints)->Render({}, false).value(), "[]");
  const auto adds = ChatTemplate::Parse("{{ bos_token + 'x' }}", {});
  EXPECT_EQ((*adds)->Render({}, false).status().message(),
            "line 1, column 14: 'bos_token' is undefined");
}

TEST(ChatTemplateTest, TextOfMessagesIsNeverTakenForTemplate) {
  const auto parsed =
      ChatTemplate::Parse("{% for m in messages %}{{ m.role + m.content }}{% endfor %}", {});
  const ChatMessage messages[] = {{"user", "{{ 1 + 1 }}{% if %}{# \n"},
                                  {"</s>", std::string("a\0b", 3)}};
  EXPECT_EQ((*parsed)->Render(messages, true).value(),
            std::string("user{{ 1 + 1 }}{% if %}{# \n</s>") + std::string("a\0b", 3));
}

}  // namespace
}  // namespace sluice::tokenizer
