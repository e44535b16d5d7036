// The drawing surface: image, labeling, scribbles and clicks, the pen and the keys. Strokes are drawn here at once and
// sent when they end.
import { changes } from "canvas_changes";
import { view } from "canvas_view";

const ZOOM = { least: 1, most: 40, step: 1.2 };
export default {
  template: `<canvas tabindex="0" style="width: 100%; height: 100%; display: block; touch-action: none; outline: none"
    @pointerdown="press" @pointermove="move" @pointerleave="leave"
    @pointerup="release" @pointercancel="release" @lostpointercapture="release"
    @wheel.prevent="wheel" @contextmenu.prevent></canvas>`,
  props: {
    name: String, // of the image
    folder: String, // stands for the folder that the image is in
    width: Number,
    height: Number,
    image: String, // addresses of pictures
    scribbles: String,
    labeling: String,
    uncertainty: String, // empty where it is not shown
    learned: Number, // version of the annotation that the labeling's scores were learned from
    applied: Object, // by sender, the number of the last change that `scribbles` and `clicks` show
    clicks: Array, // [x, y, class]
    tags: Array, // classes
    colors: Array, // by class
    tool: String, // scribble, click, erase
    label: Number,
    pen: Number, // width in pixels of the image
    opacity: Number, // of the labeling
    drawn: Boolean, // whether scribbles and clicks are shown
  },
  created() {
    this.pictures = {}; // not reactive: they are drawn, not rendered
    this.asked = {};
    // A sender is one load of the page: it counts its changes, and the server takes each of them once.
    this.sender = Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(16)).join("");
    this.number = 0;
    this.kept = this.recall();
    this.view = { zoom: 1, x: 0, y: 0 };
    this.chosen = { tool: this.tool, label: this.label };
    this.awaited = {}; // what keys have chosen, until the server says the same
  },
  mounted() {
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.$el);
    Object.keys(this.kept).forEach(this.keep); // without what is not repeated
    window.addEventListener("keydown", this.press_key);
    this.$nextTick(this.listen); // the socket is made after the elements
    this.open();
  },
  beforeUnmount() {
    this.observer.disconnect();
    window.removeEventListener("keydown", this.press_key);
    window.socket.off("connect", this.send_again);
    window.socket.off("disconnect", this.hold);
  },
  watch: {
    name: "open",
    image: "loadAll",
    scribbles: "loadAll",
    labeling: "loadAll",
    uncertainty: "loadAll",
    clicks: "draw",
    applied: "settle_shown",
    opacity: "draw",
    drawn: "draw",
    tool() {
      this.follow("tool");
    },
    label() {
      this.follow("label");
    },
    pen: "draw",
  },
  methods: {
    ...changes,
    ...view,

    // ---- images ----
    open(_, before) {
      this.view = { zoom: 1, x: 0, y: 0 };
      if (this.stroke && before) this.send_stroke(before); // of the image that was shown until now
      this.stroke = this.panning = this.pen_down = null;
      if (before) this.forget_saved(before);
      for (const change of this.pending()) change.shown = false;
      this.$el.dataset.pending = this.pending().length;
      this.loadAll();
    },
    loadAll() {
      for (const layer of ["image", "labeling", "uncertainty", "scribbles"]) this.load(layer);
    },
    load(layer) {
      const address = this[layer];
      if (this.asked[layer] === address) return;
      this.asked[layer] = address;
      if (!address || this.pictures[layer]?.name !== this.name) delete this.pictures[layer];
      if (!address) return this.draw();
      const [applied, learned] = [this.applied, this.learned];
      const [name, picture] = [this.name, new Image()];
      picture.onload = () => {
        if (this[layer] !== address) return; // a newer one is on its way
        this.pictures[layer] = { address, name, picture, learned };
        if (layer === "scribbles") this.settle(applied);
        this.draw();
      };
      picture.onerror = () => {
        if (this.asked[layer] !== address) return;
        delete this.asked[layer];
        setTimeout(() => this[layer] === address && this.load(layer), 1000);
      };
      picture.src = address;
    },

    // ---- pointer ----
    follow(what) {
      const { value, until } = this.awaited[what] || {};
      if (performance.now() < until && value !== this[what]) return; // an answer to an earlier key is out of date
      this.awaited[what] = null;
      this.chosen[what] = this[what];
      this.draw();
    },
    choose(what, value) {
      this.chosen[what] = value;
      this.awaited[what] = { value, until: performance.now() + 2000 };
    },
    press(event) {
      if (this.pen_down != null && this.$el.hasPointerCapture(this.pen_down)) return; // a second finger, or the palm
      this.pen_down = event.pointerId;
      this.$el.focus();
      this.$el.setPointerCapture(event.pointerId);
      const at = this.position(event);
      if (event.button !== 0 || event.shiftKey) this.panning = [event.clientX, event.clientY];
      else if (this.chosen.tool === "click") {
        if (this.inside(at)) this.send({ x: at[0], y: at[1], label: this.chosen.label });
      } else {
        const label = this.chosen.tool === "erase" ? 255 : this.chosen.label;
        this.stroke = { points: [at], width: this.pen, label };
      }
      this.draw();
    },
    move(event) {
      if (this.pen_down != null && this.pen_down !== event.pointerId) return;
      this.pointer = this.position(event);
      if (this.panning) {
        this.view.x += event.clientX - this.panning[0];
        this.view.y += event.clientY - this.panning[1];
        this.panning = [event.clientX, event.clientY];
        this.clamped();
      } else if (this.stroke) {
        const events = event.getCoalescedEvents?.() || [];
        for (const each of events.length ? events : [event]) this.extend(this.position(each));
      }
      this.draw();
    },
    extend(at) {
      const last = this.stroke.points.at(-1);
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) * this.scale() >= 1.5) this.stroke.points.push(at);
    },
    release(event) {
      if (this.pen_down !== event.pointerId) return;
      this.panning = this.pen_down = null;
      if (this.stroke) this.send_stroke(this.name);
      this.draw();
    },
    send_stroke(name) {
      const stroke = this.stroke;
      this.stroke = null;
      stroke.points = stroke.points.map((point) => point.map((value) => Math.round(value * 100) / 100));
      this.send(stroke, name);
    },
    leave() {
      this.pointer = null;
      this.draw();
    },
    wheel(event) {
      const before = this.position(event);
      const zoom = this.view.zoom * (event.deltaY < 0 ? ZOOM.step : 1 / ZOOM.step);
      this.view.zoom = Math.min(Math.max(zoom, ZOOM.least), ZOOM.most);
      const after = this.position(event);
      this.view.x += (after[0] - before[0]) * this.scale();
      this.view.y += (after[1] - before[1]) * this.scale();
      this.clamped();
      this.draw();
    },
    fit() {
      this.view = { zoom: 1, x: 0, y: 0 };
      this.draw();
    },

    // ---- keys ----
    press_key(event) {
      if (event.target.closest("input, textarea, select, [contenteditable]")) return;
      const command = event.ctrlKey || event.metaKey;
      const plain = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
      let name = null;
      if (command && !event.altKey) name = { z: event.shiftKey ? "redo" : "undo", y: "redo", s: "save" }[plain];
      else if (event.altKey) return;
      else if (digit) name = (event.shiftKey ? "tag " : "class ") + digit;
      else if (plain === "f") return this.fit();
      else if (plain === "Enter") name = event.target.closest("button, .q-toggle, .q-slider") ? null : "accept";
      else
        name = { ArrowRight: "next", ArrowLeft: "previous", d: "next", a: "previous", s: "scribble", c: "click",
          e: "erase", n: "need", u: "uncertainty", "[": "thinner", "]": "thicker", "-": "thinner", "+": "thicker", " ": "labeling", h: "hide" }[plain];
      if (!name) return;
      event.preventDefault();
      if (name === "undo" || name === "redo") return this.step(name);
      if (name.startsWith("tag ")) return this.toggle_tag(Number(digit) - 1);
      // At once: who presses a key and draws does not wait for the server.
      const index = Number(digit) - 1;
      if (["scribble", "click", "erase"].includes(name)) this.choose("tool", name);
      else if (name.startsWith("class ") && index < this.colors.length) {
        this.choose("label", index);
        if (this.chosen.tool === "erase") this.choose("tool", "scribble");
      }
      this.draw();
      this.command(name);
    },
  },
};
