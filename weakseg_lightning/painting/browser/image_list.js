// The list of images. Its rows are sent once; after that only those that changed, and the order as places among them.
const ICONS = {
  nothing: ["radio_button_unchecked", "grey-5", "nothing drawn"],
  drawn: ["check_circle", "green", "drawn on"],
  accepted: ["verified", "blue", "labels accepted"],
  both: ["verified", "green", "drawn on, labels accepted"],
  broken: ["warning", "orange", ""],
};

export default {
  template: `<q-virtual-scroll ref="scroll" :items="places" :virtual-scroll-item-size="26" v-slot="{ item }">
    <div :key="item" class="ellipsis cursor-pointer px-3 text-sm" style="line-height: 26px"
      :class="known[item].name === marked ? 'bg-blue-2' : ''" :data-name="known[item].name"
      :data-state="known[item].state" :title="known[item].problem || icon(item)[2]"
      @click="$emit('pick', known[item].name)">
      <q-icon size="16px" class="q-mr-xs" :name="icon(item)[0]" :color="icon(item)[1]"></q-icon>{{ known[item].name }}
    </div>
  </q-virtual-scroll>`,
  props: { rows: Array, order: Array, current: String },
  data() {
    return { known: [...this.rows], places: this.order, marked: this.current };
  },
  methods: {
    icon(place) {
      return ICONS[this.known[place].state];
    },
    patch(changes) {
      for (const [place, row] of changes) this.known[place] = row;
    },
    arrange(order) {
      this.places = order;
    },
    mark(name) {
      this.marked = name;
      const place = this.places.findIndex((each) => this.known[each].name === name);
      if (place >= 0) this.$refs.scroll.scrollTo(place, "center");
    },
  },
};
