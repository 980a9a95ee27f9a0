package org.lorarar.app;

import android.content.res.Resources;
import android.graphics.Bitmap;
import android.graphics.drawable.BitmapDrawable;
import android.graphics.drawable.Drawable;
import android.view.Gravity;
import android.view.View;
import android.widget.RadioButton;
import android.widget.RadioGroup;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.lorarar.core.Choices;
import org.lorarar.core.LoraShelf;

/** The row of a role's LoRAs, none first, of which one is chosen. */
final class LoraRow {
    private static final int SIDE = 72; // dp

    private final Screen screen;
    private final RadioGroup row;
    private final String role;
    private List<String> shown; // their ids

    LoraRow(Screen screen, int id, String role) {
        this.screen = screen;
        this.role = role;
        row = screen.findView(id);
    }

    /** Show what there is, and this one as chosen; buttons that are right already stay. */
    void show(String chosen) {
        List<String> ids = new ArrayList<>();
        List<LoraShelf.Item> items = new ArrayList<>();
        for (LoraShelf.Item each : screen.studio.loras()) {
            if (each.role.equals(role)) {
                ids.add(Shelves.id(each));
                items.add(each);
            }
        }
        if (!ids.equals(shown)) {
            shown = ids;
            row.removeAllViews();
            row.clearCheck();
            add(null);
            for (LoraShelf.Item each : items) {
                add(each);
            }
        }
        for (int i = 0; i < row.getChildCount(); i++) {
            RadioButton button = (RadioButton) row.getChildAt(i);
            if (Objects.equals(button.getTag(), chosen) && !button.isChecked()) {
                row.check(button.getId());
            }
        }
    }

    private void add(LoraShelf.Item item) {
        final RadioButton button = new RadioButton(screen);
        button.setId(View.generateViewId());
        button.setSaveEnabled(false); // the studio knows
        button.setTag(item == null ? null : Shelves.id(item));
        button.setText(item == null ? screen.getString(R.string.none) : item.name);
        button.setGravity(Gravity.CENTER);
        button.setMinHeight(px(48));
        button.setPaddingRelative(px(4), px(4), px(12), px(4));
        if (item != null && item.thumbnail != null) {
            showThumbnail(button, item);
        }
        button.setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                choose((String) view.getTag());
            }
        });
        row.addView(button);
    }

    private void showThumbnail(final RadioButton button, LoraShelf.Item item) {
        final int side = px(SIDE);
        screen.studio.thumbnails.load(item.thumbnail, side, new Thumbnails.Shown() {
            @Override
            public void show(Bitmap picture) {
                Drawable top = new BitmapDrawable(screen.getResources(), picture);
                top.setBounds(0, 0, side, side);
                button.setCompoundDrawablesRelative(null, top, null, null);
            }
        });
    }

    private void choose(String id) {
        Choices choices = screen.studio.choices();
        if (role.equals(LoraShelf.CONTENT)) {
            choices.content = id;
        } else {
            choices.style = id;
        }
        screen.studio.choose(choices);
    }

    private int px(int dp) {
        return Math.round(dp * Resources.getSystem().getDisplayMetrics().density);
    }
}
