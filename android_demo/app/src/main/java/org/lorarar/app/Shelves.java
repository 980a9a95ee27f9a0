package org.lorarar.app;

import java.io.File;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.lorarar.core.LoraShelf;
import org.lorarar.core.LorararException;

/** The LoRAs that can be chosen: those that came in the app, and those opened later. */
final class Shelves {
    final LoraShelf imported;
    private final LoraShelf embedded;
    private volatile List<LoraShelf.Item> items = Collections.emptyList();

    Shelves(File embedded, File imported) {
        this.embedded = new LoraShelf(embedded);
        this.imported = new LoraShelf(imported);
    }

    /** What names a LoRA in choices, wherever the app's folder is. */
    static String id(LoraShelf.Item item) {
        return item.file.getParentFile().getName() + "/" + item.file.getName();
    }

    /** Embedded ones, then imported ones, as read last. */
    List<LoraShelf.Item> items() {
        return items;
    }

    /** The LoRA of an id, or null if there is none or the id is null. */
    LoraShelf.Item item(String id) {
        for (LoraShelf.Item each : items) {
            if (id(each).equals(id)) {
                return each;
            }
        }
        return null;
    }

    boolean isEmbedded(LoraShelf.Item item) {
        return item.file.getParentFile().equals(embedded.folder);
    }

    /** The id of the first embedded one of a role, or null. */
    String first(String role) {
        for (LoraShelf.Item each : items) {
            if (each.role.equals(role)) {
                return id(each);
            }
        }
        return null;
    }

    /** Read both folders again. */
    void read() throws LorararException {
        List<LoraShelf.Item> all = new ArrayList<>(embedded.items());
        items = all; // these stay if the imported ones' index is damaged
        List<LoraShelf.Item> both = new ArrayList<>(all);
        both.addAll(imported.items());
        items = both;
    }
}
