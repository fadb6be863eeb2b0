// createCipheriv and createDecipheriv for AES-GCM: the data is kept and processed by `final`.
import { native } from "../../native.js";
import { concat } from "../../web/bytes.js";
import { coded, unavailable } from "../errors.js";
import { fromBytes, toBytes } from "./bytes.js";
import { secretBytes } from "./keys.js";

const KEY_BYTES = { "aes-128-gcm": 16, "aes-192-gcm": 24, "aes-256-gcm": 32, "id-aes128-gcm": 16, "id-aes256-gcm": 32 };
const TAG_BYTES = 16;

export const getCiphers = () => Object.keys(KEY_BYTES);

class Cipher {
  #encrypt;
  #key;
  #iv;
  #associated = [];
  #chunks = [];
  #tag;

  constructor(encrypt, algorithm, key, iv) {
    const length = KEY_BYTES[String(algorithm).toLowerCase()];
    if (length === undefined) throw unavailable(`the cipher ${algorithm}`, "use aes-128-gcm or aes-256-gcm");
    this.#encrypt = encrypt;
    this.#key = secretBytes(key).slice();
    if (this.#key.length !== length) throw coded(new RangeError("Invalid key length"), "ERR_CRYPTO_INVALID_KEYLEN");
    this.#iv = toBytes(iv).slice();
  }

  setAAD(data) {
    this.#associated.push(toBytes(data).slice());
    return this;
  }

  update(data, inputEncoding, outputEncoding) {
    this.#chunks.push(toBytes(data, inputEncoding).slice());
    return fromBytes(new Uint8Array(0), outputEncoding);
  }

  final(outputEncoding) {
    const data = concat(this.#encrypt ? this.#chunks : [...this.#chunks, this.#requireTag()]);
    const run = (input) => native.crypto.aesGcm(this.#encrypt, this.#key, this.#iv, concat(this.#associated), input);
    if (this.#encrypt) {
      const result = run(data);
      this.#tag = result.slice(-TAG_BYTES);
      return fromBytes(result.slice(0, -TAG_BYTES), outputEncoding);
    }
    let plain;
    try {
      plain = run(data);
    } catch {
      throw new Error("Unsupported state or unable to authenticate data");
    }
    return fromBytes(plain, outputEncoding);
  }

  #requireTag() {
    if (this.#tag === undefined) throw new Error("Unsupported state or unable to authenticate data");
    return this.#tag;
  }

  getAuthTag() {
    return fromBytes(this.#requireTag().slice());
  }

  setAuthTag(tag, encoding) {
    this.#tag = toBytes(tag, encoding).slice();
    if (this.#tag.length !== TAG_BYTES) {
      throw coded(new TypeError(`Invalid authentication tag length: ${this.#tag.length}`), "ERR_CRYPTO_INVALID_AUTH_TAG");
    }
    return this;
  }

  setAutoPadding() {
    return this;
  }
}

export const createCipheriv = (algorithm, key, iv) => new Cipher(true, algorithm, key, iv);
export const createDecipheriv = (algorithm, key, iv) => new Cipher(false, algorithm, key, iv);
