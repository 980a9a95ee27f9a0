package org.lorarar.app;

import android.graphics.Bitmap;
import android.net.Uri;
import android.os.Bundle;
import android.view.View;
import android.view.ViewGroup;
import android.widget.Button;
import android.widget.ImageView;
import android.widget.TextView;
import java.util.List;
import org.lorarar.core.LoraShelf;

/** The LoRAs that can be chosen; others are opened from files. */
public final class LorasScreen extends Screen {
    private static final int OPEN_CONTENT = 1;
    private static final int OPEN_STYLE = 2;

    private List<LoraShelf.Item> shown;

    @Override
    int layout() {
        return R.layout.loras;
    }

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        listen(R.id.add_content, R.id.add_style);
    }

    @Override
    void pressed(int button) {
        askToOpen(button == R.id.add_content ? OPEN_CONTENT : OPEN_STYLE);
    }

    @Override
    void chosen(int request, Uri document) {
        String role = request == OPEN_CONTENT ? LoraShelf.CONTENT : LoraShelf.STYLE;
        studio.importLora(document, Documents.name(this, document), role);
    }

    @Override
    public void changed() {
        super.changed();
        List<LoraShelf.Item> items = studio.loras();
        if (items.equals(shown)) {
            return;
        }
        shown = items;
        ViewGroup list = findView(R.id.loras);
        list.removeAllViews();
        for (LoraShelf.Item each : items) {
            list.addView(row(each, list));
        }
    }

    private View row(final LoraShelf.Item item, ViewGroup list) {
        View row = getLayoutInflater().inflate(R.layout.lora, list, false);
        boolean isStyle = item.role.equals(LoraShelf.STYLE);
        boolean isEmbedded = studio.isEmbedded(item);
        ((TextView) row.findViewById(R.id.name)).setText(getString(
                R.string.lora_facts, item.name,
                getString(isStyle ? R.string.style : R.string.content),
                getString(isEmbedded ? R.string.embedded : R.string.imported)));
        final ImageView picture = (ImageView) row.findViewById(R.id.thumbnail);
        if (item.thumbnail != null) {
            int side = picture.getLayoutParams().width;
            studio.thumbnails.load(item.thumbnail, side, new Thumbnails.Shown() {
                @Override
                public void show(Bitmap bitmap) {
                    picture.setImageBitmap(bitmap);
                }
            });
        }
        Button remove = (Button) row.findViewById(R.id.remove);
        remove.setVisibility(isEmbedded ? View.GONE : View.VISIBLE);
        remove.setContentDescription(getString(R.string.remove_name, item.name));
        remove.setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                studio.removeLora(item);
            }
        });
        return row;
    }
}
