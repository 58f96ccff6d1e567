// The C++ client of gRPC, as clients/README.md describes it.
//
//     g++ -std=c++17 cpp.cc -o cpp $(pkg-config --cflags --libs grpc++)

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <cstdlib>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>

namespace {

std::mutex printing;

std::string hex(const std::string& bytes) {
  static const char* digits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (unsigned char each : bytes) {
    text += digits[each >> 4];
    text += digits[each & 15];
  }
  return text.empty() ? "-" : text;
}

int digit(char each) { return each <= '9' ? each - '0' : each - 'a' + 10; }

std::string bytes(const std::string& text) {
  std::string result;
  if (text == "-") return result;
  result.reserve(text.size() / 2);
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    result += static_cast<char>(digit(text[i]) << 4 | digit(text[i + 1]));
  }
  return result;
}

grpc::ByteBuffer buffer(const std::string& message) {
  grpc::Slice slice(message);
  return grpc::ByteBuffer(&slice, 1);
}

std::string content(const grpc::ByteBuffer& message) {
  std::vector<grpc::Slice> slices;
  std::string result;
  if (!message.Dump(&slices).ok()) std::abort();
  for (const auto& slice : slices) result.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return result;
}

void say_message(const std::string& number, const grpc::ByteBuffer& message) {
  std::lock_guard<std::mutex> lock(printing);
  std::cout << "message " << number << ' ' << hex(content(message)) << std::endl;
}

void say_status(const std::string& number, const grpc::Status& status) {
  std::lock_guard<std::mutex> lock(printing);
  std::cout << "status " << number << ' ' << status.error_code() << ' ' << hex(status.error_message()) << std::endl;
}

class Call {
 public:
  virtual ~Call() = default;
  virtual void send(const std::string& message) = 0;
  virtual void end() = 0;
  void cancel() { context.TryCancel(); }

  grpc::ClientContext context;
};

class UnaryCall : public Call {
 public:
  UnaryCall(grpc::GenericStub& stub, std::string number, std::string path)
      : stub_(stub), number_(std::move(number)), path_(std::move(path)) {}

  void send(const std::string& message) override {
    request_ = buffer(message);
    stub_.UnaryCall(&context, path_, grpc::StubOptions(), &request_, &reply_, [this](grpc::Status status) {
      if (status.ok()) say_message(number_, reply_);
      say_status(number_, status);
    });
  }

  void end() override {}  // it ends with its message

 private:
  grpc::GenericStub& stub_;
  std::string number_, path_;
  grpc::ByteBuffer request_, reply_;
};

class StreamCall : public Call, private grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  StreamCall(grpc::GenericStub& stub, std::string number, const std::string& path) : number_(std::move(number)) {
    stub_ = &stub;
    path_ = path;
  }

  // After the context has been filled.
  void start() {
    stub_->PrepareBidiStreamingCall(&context, path_, grpc::StubOptions(), this);
    AddHold();
    StartRead(&reply_);
    StartCall();
  }

  void send(const std::string& message) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (released_) return;
    requests_.push_back(buffer(message));
    if (requests_.size() == 1) StartWrite(&requests_.front());
  }

  void end() override {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
    if (requests_.empty() && !released_) StartWritesDone();
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!released_) RemoveHold();
      released_ = true;
      return;
    }
    say_message(number_, reply_);
    StartRead(&reply_);
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!ok) return;
    requests_.pop_front();
    if (!requests_.empty()) {
      StartWrite(&requests_.front());
    } else if (ending_) {
      StartWritesDone();
    }
  }

  void OnDone(const grpc::Status& status) override { say_status(number_, status); }

  std::string number_, path_;
  grpc::GenericStub* stub_;
  grpc::ByteBuffer reply_;
  std::mutex mutex_;
  std::deque<grpc::ByteBuffer> requests_;
  bool ending_ = false, released_ = false;
};

void fill(grpc::ClientContext& context, const std::string& seconds, const std::string& metadata) {
  if (seconds != "-") {
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::microseconds(static_cast<long>(std::stod(seconds) * 1e6)));
  }
  std::istringstream pairs(metadata == "-" ? "" : metadata);
  for (std::string pair; std::getline(pairs, pair, ',');) {
    auto equals = pair.find('=');
    context.AddMetadata(pair.substr(0, equals), bytes(pair.substr(equals + 1)));
  }
}

}  // namespace

int main(int, char** arguments) {
  grpc::ChannelArguments options;
  options.SetMaxReceiveMessageSize(-1);
  if (std::string(arguments[2]) == "gzip") options.SetCompressionAlgorithm(GRPC_COMPRESS_GZIP);
  grpc::GenericStub stub(grpc::CreateCustomChannel(arguments[1], grpc::InsecureChannelCredentials(), options));
  std::map<std::string, std::unique_ptr<Call>> calls;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb, number, kind, path, seconds, metadata, message;
    words >> verb >> number;
    if (verb == "call") {
      words >> kind >> path >> seconds >> metadata;
      if (kind == "unary") {
        calls[number] = std::make_unique<UnaryCall>(stub, number, path);
        fill(calls[number]->context, seconds, metadata);
      } else {
        auto call = std::make_unique<StreamCall>(stub, number, path);
        fill(call->context, seconds, metadata);
        call->start();
        calls[number] = std::move(call);
      }
    } else if (verb == "send") {
      words >> message;
      calls[number]->send(bytes(message));
    } else if (verb == "end") {
      calls[number]->end();
    } else {
      calls[number]->cancel();
    }
  }
  std::_Exit(0);  // calls may still be in the hands of gRPC's threads
}
