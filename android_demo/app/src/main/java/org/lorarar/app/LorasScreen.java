package org.lorarar.app;

import android.app.Activity;
import android.content.Intent;
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
        opens(R.id.add_content, OPEN_CONTENT);
        opens(R.id.add_style, OPEN_STYLE);
    }

    private void opens(int button, final int request) {
        findViewById(button).setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                Documents.choose(LorasScreen.this, request);
            }
        });
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        super.onActivityResult(request, result, data);
        if (result == Activity.RESULT_OK && data != null && data.getData() != null) {
            Uri uri = data.getData();
            String role = request == OPEN_CONTENT ? LoraShelf.CONTENT : LoraShelf.STYLE;
            studio.importLora(uri, Documents.name(this, uri), role);
        }
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
