#include "json.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>

namespace zdce {
namespace {

[[noreturn]] void fail(const char* what) { throw std::runtime_error(std::string("zdce: JSON ") + what); }

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Json whole() {
    Json value = read(0);
    skip();
    if (at_ != text_.size()) fail("goes on behind its value");
    return value;
  }

 private:
  static constexpr int kDeepest = 16;

  void skip() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  char peek() {
    skip();
    if (at_ == text_.size()) fail("ends too early");
    return text_[at_];
  }

  void expect(char wanted) {
    if (peek() != wanted) fail("has an unexpected character");
    ++at_;
  }

  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  bool take_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json read(int depth) {
    if (depth > kDeepest) fail("is nested too deeply");
    Json value;
    switch (peek()) {
      case '{':
        value.kind = Json::Kind::kObject;
        read_object(value, depth);
        break;
      case '[':
        value.kind = Json::Kind::kArray;
        read_array(value, depth);
        break;
      case '"':
        value.kind = Json::Kind::kString;
        value.string = read_string();
        break;
      default:
        read_scalar(value);
    }
    return value;
  }

  void read_object(Json& value, int depth) {
    expect('{');
    if (take('}')) return;
    do {
      if (peek() != '"') fail("has a key that is no string");
      std::string key = read_string();
      expect(':');
      value.object.insert_or_assign(std::move(key), read(depth + 1));
    } while (take(','));
    expect('}');
  }

  void read_array(Json& value, int depth) {
    expect('[');
    if (take(']')) return;
    do {
      value.array.push_back(read(depth + 1));
    } while (take(','));
    expect(']');
  }

  void read_scalar(Json& value) {
    if (take_word("true")) {
      value.kind = Json::Kind::kBoolean, value.boolean = true;
    } else if (take_word("false")) {
      value.kind = Json::Kind::kBoolean;
    } else if (!take_word("null")) {
      value.kind = Json::Kind::kNumber, value.number = read_number();
    }
  }

  double read_number() {
    const size_t end = std::min(text_.find_first_not_of("+-.0123456789eE", at_), text_.size());
    const std::string digits(text_.substr(at_, end - at_));
    char* stop = nullptr;
    const double number = std::strtod(digits.c_str(), &stop);
    if (digits.empty() || *stop != '\0') fail("has an unexpected character");
    at_ = end;
    return number;
  }

  std::string read_string() {
    expect('"');
    std::string value;
    for (;;) {
      if (at_ == text_.size()) fail("ends in a string");
      const char c = text_[at_++];
      if (c == '"') return value;
      if (static_cast<unsigned char>(c) < 0x20) fail("has a control character in a string");
      value += c == '\\' ? read_escape() : std::string(1, c);
    }
  }

  std::string read_escape() {
    if (at_ == text_.size()) fail("ends in a string");
    const char c = text_[at_++];
    constexpr std::string_view names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
    if (const size_t i = names.find(c); i != std::string_view::npos) return std::string(1, values[i]);
    if (c != 'u') fail("has an unknown escape");
    return encoded(read_hex());
  }

  unsigned read_hex() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i) {
      const size_t digit = at_ < text_.size() ? std::string_view("0123456789abcdef").find(lower(text_[at_])) : 16;
      if (digit >= 16) fail("has a broken \\u escape");
      code = code * 16 + static_cast<unsigned>(digit), ++at_;
    }
    return code;
  }

  static char lower(char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; }

  // In UTF-8. The halves of surrogate pairs are encoded separately; names and numbers here have none.
  static std::string encoded(unsigned code) {
    const auto byte = [](unsigned value) { return static_cast<char>(value); };
    if (code < 0x80) return {byte(code)};
    if (code < 0x800) return {byte(0xc0 | code >> 6), byte(0x80 | (code & 63))};
    return {byte(0xe0 | code >> 12), byte(0x80 | (code >> 6 & 63)), byte(0x80 | (code & 63))};
  }

  std::string_view text_;
  size_t at_ = 0;
};

const Json& of_kind(const Json& value, Json::Kind kind, const char* what) {
  if (value.kind != kind) fail(what);
  return value;
}

}  // namespace

const Json* Json::find(std::string_view key) const {
  of_kind(*this, Kind::kObject, "must have an object there");
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &found->second;
}

const Json& Json::at(std::string_view key) const {
  const Json* const value = find(key);
  if (value == nullptr) fail(("must have a key " + std::string(key)).c_str());
  return *value;
}

const std::string& Json::text() const { return of_kind(*this, Kind::kString, "must have a string there").string; }
bool Json::flag() const { return of_kind(*this, Kind::kBoolean, "must have true or false there").boolean; }
double Json::real() const { return of_kind(*this, Kind::kNumber, "must have a number there").number; }
const std::vector<Json>& Json::list() const { return of_kind(*this, Kind::kArray, "must have an array there").array; }

int64_t Json::integer(int64_t low, int64_t high) const {
  const double value = real();
  if (!(value >= static_cast<double>(low) && value <= static_cast<double>(high)) ||
      value != static_cast<double>(static_cast<int64_t>(value))) {
    fail(("must have a whole number of " + std::to_string(low) + " to " + std::to_string(high) + " there").c_str());
  }
  return static_cast<int64_t>(value);
}

Json parse_json(std::string_view text) { return Reader(text).whole(); }

}  // namespace zdce
