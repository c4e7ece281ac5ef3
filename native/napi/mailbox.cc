#include "napi/bridge.h"

namespace mome {

std::shared_ptr<Mailbox> Mailbox::open(Napi::Env env) {
  auto mailbox = std::make_shared<Mailbox>();
  mailbox->function_ =
      Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "mome", 0, 1);
  mailbox->function_.Unref(env);
  // Hooks run in reverse order: this one before the function's own.
  env.AddCleanupHook([mailbox] {
    {
      const std::lock_guard lock(mailbox->mutex_);
      mailbox->closed_ = true;
    }
    const std::unique_lock none_reads(mailbox->memory_);
  });
  return mailbox;
}

void Mailbox::post(Letter letter) {
  struct Envelope {
    Mailbox& mailbox;
    Letter letter;
  };
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  // The state that owns the mailbox outlives its letters.
  auto* envelope = new Envelope{*this, std::move(letter)};
  const napi_status queued = function_.NonBlockingCall(envelope, [](Napi::Env env, Napi::Function, Envelope* received) {
    const std::unique_ptr<Envelope> owned(received);
    if (static_cast<napi_env>(env) == nullptr) return;
    const Napi::HandleScope scope(env);
    if (--owned->mailbox.awaited_ == 0) owned->mailbox.function_.Unref(env);
    owned->letter(env);
  });
  if (queued != napi_ok) delete envelope;
}

}  // namespace mome
