package org.lorarar.app;

import android.graphics.Bitmap;
import android.os.Bundle;
import android.view.View;
import android.view.ViewGroup;
import android.widget.GridLayout;
import android.widget.ImageButton;
import android.widget.ImageView;
import java.io.File;
import java.util.List;
import org.lorarar.core.Choices;

/** The pictures drawn before; one that is tapped tells its settings. */
public final class PicturesScreen extends Screen {
    private static final String CHOSEN = "chosen";
    private static final int SIDE = 104; // dp, of a picture in the grid

    private static final int PAGE = 60; // of the grid

    private List<File> shown;
    private int most = PAGE;
    private File chosen; // or null

    @Override
    int layout() {
        return R.layout.pictures;
    }

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        String path = saved == null ? null : saved.getString(CHOSEN);
        chosen = path == null ? null : new File(path);
        listen(R.id.older, R.id.again, R.id.share_chosen, R.id.delete);
    }

    @Override
    protected void onSaveInstanceState(Bundle saved) {
        super.onSaveInstanceState(saved);
        saved.putString(CHOSEN, chosen == null ? null : chosen.getPath());
    }

    @Override
    public void changed() {
        super.changed();
        List<File> pictures = studio.pictures();
        if (pictures.equals(shown)) {
            return;
        }
        shown = pictures;
        if (!pictures.contains(chosen)) {
            chosen = null;
        }
        setText(R.id.no_pictures, pictures.isEmpty() ? getString(R.string.no_pictures) : null);
        showGrid(pictures);
        showChosen();
    }

    private void showGrid(List<File> pictures) {
        boolean areOlder = pictures.size() > most;
        findViewById(R.id.older).setVisibility(areOlder ? View.VISIBLE : View.GONE);
        GridLayout grid = findView(R.id.grid);
        grid.removeAllViews();
        int side = px(SIDE);
        int wide = getResources().getDisplayMetrics().widthPixels - px(32);
        grid.setColumnCount(Math.max(1, wide / side));
        for (File each : pictures.subList(0, Math.min(most, pictures.size()))) {
            grid.addView(button(each, side), new ViewGroup.LayoutParams(side, side));
        }
    }

    private View button(final File file, int side) {
        final ImageButton button = new ImageButton(this);
        button.setScaleType(ImageView.ScaleType.CENTER_CROP);
        button.setContentDescription(describe(file, studio.choicesOf(file)));
        studio.thumbnails.load(file, side, new Thumbnails.Shown() {
            @Override
            public void show(Bitmap picture) {
                button.setImageBitmap(picture);
            }
        });
        button.setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                chosen = file;
                showChosen();
            }
        });
        return button;
    }

    private String describe(File file, Choices from) {
        return getString(R.string.picture_of, from == null ? file.getName() : from.prompt);
    }

    private void showChosen() {
        View panel = findViewById(R.id.panel);
        panel.setVisibility(chosen == null ? View.GONE : View.VISIBLE);
        if (chosen == null) {
            return;
        }
        final File file = chosen;
        final ImageView large = findView(R.id.large);
        large.setImageDrawable(null);
        Choices from = studio.choicesOf(file);
        large.setContentDescription(describe(file, from));
        int side = getResources().getDisplayMetrics().widthPixels;
        studio.thumbnails.load(file, side, new Thumbnails.Shown() {
            @Override
            public void show(Bitmap picture) {
                if (file.equals(chosen)) {
                    large.setImageBitmap(picture);
                }
            }
        });
        findViewById(R.id.again).setEnabled(from != null);
        setText(R.id.settings, from == null ? file.getName() : getString(
                R.string.settings, from.prompt, from.seed, from.steps, from.contentScale,
                from.styleScale));
    }

    @Override
    void pressed(int id) {
        if (id == R.id.older) {
            most += PAGE;
            showGrid(shown);
            return;
        }
        if (chosen == null) {
            return;
        }
        if (id == R.id.again) {
            again(studio.choicesOf(chosen));
        } else if (id == R.id.share_chosen) {
            share(chosen, "image/png");
        } else if (id == R.id.delete) {
            studio.deletePicture(chosen);
        }
    }

    /** Choose all of it again, the model included; then it draws from the same noise. */
    private void again(Choices from) {
        if (from != null) {
            studio.choose(from);
            open(DrawScreen.class);
        }
    }

    private int px(int dp) {
        return Math.round(dp * getResources().getDisplayMetrics().density);
    }
}
